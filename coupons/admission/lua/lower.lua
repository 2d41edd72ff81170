#!lua flags=allow-oom
-- Stops admission at a lower quantity that PostgreSQL is about to commit: later users get PAUSED, not SOLD_OUT. This ends
-- when push.lua brings the revision of that change or a later one.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch   2 revision that the change will have   3 quantity
-- Returns
--   {'LOWERING'}
--   {'SUPERSEDED', revision}      Redis has this revision or a later one; nothing was written
--   {'BELOW_ADMITTED', admitted}  more users are admitted than the quantity allows; nothing was written
--   or what state.lua returns for a state that is not current.
-- Of several lowerings, the lowest quantity and the highest revision count. Otherwise a process that stood still and sends its
-- lowering late would admit users above the quantity of the change that is under way now.

local campaign, reply = read_state()
if not campaign then return reply end
local revision, quantity = tonumber(ARGV[2]), tonumber(ARGV[3])
if campaign.revision >= revision then return {'SUPERSEDED', campaign.revision} end
if campaign.admitted > quantity then return {'BELOW_ADMITTED', campaign.admitted} end
redis.call('HSET', KEYS[1],
  'lowering', string.format('%d', math.min(campaign.lowering or quantity, quantity)),
  'lowering_revision', string.format('%d', math.max(campaign.lowering_revision or revision, revision)))
return {'LOWERING'}
