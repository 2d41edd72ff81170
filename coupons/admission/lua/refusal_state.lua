#!lua flags=allow-oom
-- Returns how the campaign would answer a user without a ticket, for processes that refuse from memory (coupons/front/).
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller
-- Returns {'CURRENT', revision, admitted, now_ms, reason, opens_at_ms}, or what state.lua returns for a state that is not
-- current. The reason is false while the campaign admits users, else the first of
--   {'PAUSED'}  {'CLOSED'}  {'SOLD_OUT'}  {'NOT_OPEN', ...}

local campaign, reply = read_state()
if not campaign then return reply end

local reason, now_ms = refusal(campaign)
return {'CURRENT', campaign.revision, campaign.admitted, now_ms, reason and reason[1] or false, campaign.opens_at_ms}
