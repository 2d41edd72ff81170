#!lua flags=allow-oom
-- Lists pending tickets by score: by age if not known to be published, else by position in the topic.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller   2 lowest score   3 highest score   4 limit (1,000 at most)
-- Returns {'CURRENT', user, sequence, score, user, ...} in the order of the scores,
--         or what state.lua returns for a state that is not current.

local campaign, reply = read_state()
if not campaign then return reply end

local found = redis.call('ZRANGE', KEYS[3], ARGV[2], ARGV[3], 'BYSCORE', 'LIMIT', 0, ARGV[4], 'WITHSCORES')
local tickets = {'CURRENT'}
for i = 1, #found, 2 do
  tickets[#tickets + 1] = found[i]
  tickets[#tickets + 1] = redis.call('HGET', KEYS[2], found[i])
  tickets[#tickets + 1] = found[i + 1]
end
return tickets
