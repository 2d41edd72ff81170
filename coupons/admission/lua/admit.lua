#!lua
-- Admits a user if the campaign has room, in one atomic step. A repeat gets the same ticket.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller   2 user id
-- Returns
--   {'ADMITTED', sequence, admitted_at_ms}     the user got a ticket now, which is pending
--   {'ALREADY_ADMITTED', sequence, score}      the score in the pending set; false = PostgreSQL has the row
--   {'PAUSED'}  {'CLOSED'}  {'SOLD_OUT'}
--   {'NOT_OPEN', opens_at_ms, now_ms}
--   {'STALE', reason}  {'EPOCH_AHEAD', epoch}  nothing was written, see state.lua
-- An admitted user gets this answer whatever the campaign's state is by now, so the ticket is looked up first.
-- Example: EVALSHA ... 3 coupon:{c}:campaign coupon:{c}:tickets coupon:{c}:pending 1 42  ->  ADMITTED 37 1790000000000

local campaign, reply = read_state()
if not campaign then return reply end

local user = ARGV[2]
local sequence = redis.call('HGET', KEYS[2], user)
if sequence then
  return {'ALREADY_ADMITTED', tonumber(sequence), redis.call('ZSCORE', KEYS[3], user)}
end

local reason, now_ms = refusal(campaign)
if reason then return reason end
if is_on_hold(campaign, now_ms) then return {'PAUSED'} end

sequence = campaign.next_sequence
redis.call('HSET', KEYS[2], user, string.format('%d', sequence))
redis.call('ZADD', KEYS[3], string.format('%d', now_ms), user)
redis.call('HINCRBY', KEYS[1], 'admitted', 1)
redis.call('HINCRBY', KEYS[1], 'next_sequence', 1)
return {'ADMITTED', sequence, now_ms}
