#!lua flags=allow-oom
-- Returns the sequences of a list of users, for callers that need nothing else of the tickets.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller   2.. user ids (1,000 at most: Lua's stack bounds unpack)
-- Returns {'CURRENT', {sequence or false, sequence or false, ...}} in the order of the users,
--         or what state.lua returns for a state that is not current.

local campaign, reply = read_state()
if not campaign then return reply end

return {'CURRENT', redis.call('HMGET', KEYS[2], unpack(ARGV, 2))}
