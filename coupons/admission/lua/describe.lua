#!lua flags=allow-oom
-- Reads a campaign's state for pages, metrics and the ledger.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller
-- Returns {'CURRENT', epoch, revision, state, quantity, opens_at_ms, closes_at_ms or false, admitted, settled,
--          next_sequence, now_ms, lowering_revision or false}, or what state.lua returns for a state that is not
--          current. lowering_revision belongs to a lower quantity that PostgreSQL may not have committed (lower.lua).

local campaign, reply = read_state()
if not campaign then return reply end

local time = redis.call('TIME')
return {'CURRENT', campaign.epoch, campaign.revision, campaign.state, campaign.quantity, campaign.opens_at_ms,
  campaign.closes_at_ms or false, campaign.admitted, campaign.settled, campaign.next_sequence,
  tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), campaign.lowering_revision or false}
