#!lua flags=allow-oom
-- Takes tickets off pending after PostgreSQL has committed their coupon or failed event. Idempotent.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller   2.. user ids (1,000 at most)
-- Returns {'CURRENT', how many were pending until now}, or what state.lua returns for a state that is not current.

local campaign, reply = read_state()
if not campaign then return reply end

local users = {}
for i = 2, #ARGV do users[i - 1] = ARGV[i] end
local removed = redis.call('ZREM', KEYS[3], unpack(users))
if removed > 0 then redis.call('HINCRBY', KEYS[1], 'settled', removed) end
return {'CURRENT', removed}
