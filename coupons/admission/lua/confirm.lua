#!lua flags=allow-oom
-- Confirms that a ticket is still held, after Kafka has acknowledged its message and before the user gets an answer.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller, which the message carries   2 user id   3 sequence
--       4 score of the message's position (coupons/messaging/positions.py), or '' when Kafka reported none
-- Returns
--   {'CONFIRMED'}   held, and noted as published if it is still pending
--   {'NOT_HELD'}    the user has no ticket, or another one; nothing was written
--   {'STALE', reason}  {'EPOCH_AHEAD', epoch}  nothing was written, see state.lua
-- A promise rests on CONFIRMED (decision 0026): a rebuild that begins later finds the message in the topic.
-- Example: EVALSHA ... 3 coupon:{c}:campaign coupon:{c}:tickets coupon:{c}:pending 1 42 37 8796093022219  ->  CONFIRMED

local campaign, reply = read_state()
if not campaign then return reply end

local user = ARGV[2]
if redis.call('HGET', KEYS[2], user) ~= ARGV[3] then return {'NOT_HELD'} end
if ARGV[4] ~= '' then redis.call('ZADD', KEYS[3], 'XX', ARGV[4], user) end -- XX: not if its coupon is issued already
return {'CONFIRMED'}
