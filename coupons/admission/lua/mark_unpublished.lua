#!lua flags=allow-oom
-- Forgets the positions of pending tickets' messages, so that the relay publishes them again.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller   2 lowest score   3 highest score (coupons/messaging/positions.py)   4 limit (<= 1,000)
-- Returns {'CURRENT', how many}, or what state.lua returns for a state that is not current.

local campaign, reply = read_state()
if not campaign then return reply end

local users = redis.call('ZRANGE', KEYS[3], ARGV[2], ARGV[3], 'BYSCORE', 'LIMIT', 0, ARGV[4])
for _, user in ipairs(users) do redis.call('ZADD', KEYS[3], 'XX', 0, user) end
return {'CURRENT', #users}
