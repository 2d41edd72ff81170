#!lua flags=allow-oom
-- Returns the tickets of a list of users, and whether each is still pending.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller   2.. user ids (1,000 at most: Lua's stack bounds unpack)
-- Returns {'CURRENT', sequence or false, score or false, sequence, score, ...} in the order of the users,
--         or what state.lua returns for a state that is not current.

local campaign, reply = read_state()
if not campaign then return reply end

local users = {}
for i = 2, #ARGV do users[i - 1] = ARGV[i] end
local sequences = redis.call('HMGET', KEYS[2], unpack(users))
local scores = redis.call('ZMSCORE', KEYS[3], unpack(users))
local held = {'CURRENT'}
for i = 1, #users do
  held[2 * i] = sequences[i]
  held[2 * i + 1] = scores[i]
end
return held
