#!lua flags=allow-oom
-- Brings quantity, window and state of a current campaign up to a revision. Older revisions are ignored.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch   2 revision   3 state   4 quantity   5 opens_at_ms   6 closes_at_ms, '' = never   7 hold_ms
-- Returns
--   {'PUSHED'}
--   {'ON_HOLD'}                   pushed, and no user is admitted for hold_ms more at most
--   {'SUPERSEDED', revision}      Redis has this revision or a later one; nothing was written
--   {'BELOW_ADMITTED', admitted}  more users are admitted than the quantity allows; nothing was written
--   or what state.lua returns for a state that is not current.
-- A campaign that refused every user until now goes on hold: processes may refuse from memory for as long (coupons/front/), and
-- must not refuse a user who was admitted meanwhile. admit.lua returns PAUSED until then.
-- A lowering (lower.lua) of this revision or an earlier one has been decided, and ends.

local campaign, reply = read_state()
if not campaign then return reply end
if campaign.revision >= tonumber(ARGV[2]) then return {'SUPERSEDED', campaign.revision} end
if campaign.admitted > tonumber(ARGV[4]) then return {'BELOW_ADMITTED', campaign.admitted} end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'state', ARGV[3], 'quantity', ARGV[4], 'opens_at_ms', ARGV[5],
  'closes_at_ms', ARGV[6])
if campaign.lowering_revision and campaign.lowering_revision <= tonumber(ARGV[2]) then
  redis.call('HDEL', KEYS[1], 'lowering', 'lowering_revision')
end
local reason, now_ms = refusal(campaign) -- by the settings before this push
if reason and ARGV[7] ~= '0' then
  redis.call('HSET', KEYS[1], 'hold_from_ms', string.format('%d', now_ms),
    'hold_until_ms', string.format('%d', now_ms + tonumber(ARGV[7])))
  return {'ON_HOLD'}
end
if is_on_hold(campaign, now_ms) then return {'ON_HOLD'} end
return {'PUSHED'}
