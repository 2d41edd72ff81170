-- Checks whether a campaign's state is current. scripts.py puts this text in front of every script.
--
-- State is current if the hash exists, was written under this server process (INFO's run_id), has the epoch that the
-- caller read from PostgreSQL, and its counts agree with the tickets and the pending set. INFO is allowed in scripts
-- and takes microseconds; every count is O(1).
--
-- KEYS  1 hash of the campaign   2 hash of tickets   3 sorted set of pending tickets
-- ARGV  1 epoch known to the caller
-- read_state() returns the table of fields, or nil and a reply that the script returns unchanged:
--   {'STALE', reason}         missing | run_id | epoch | tickets | pending | rebuilding
--   {'EPOCH_AHEAD', epoch}    Redis was rebuilt after the caller read the epoch: read PostgreSQL and call again
-- refusal(campaign) returns why a user without a ticket is refused, or nil, and Redis's time in ms:
--   {'PAUSED'}  {'CLOSED'}  {'NOT_OPEN', opens_at_ms, now_ms}  {'SOLD_OUT'}
-- CLOSED and SOLD_OUT are final, so they follow only from settings that PostgreSQL has committed. PAUSED is also the
-- answer at a lower quantity that PostgreSQL has not committed yet (lower.lua).
-- is_on_hold(campaign, now_ms) returns whether a change is not yet in force (push.lua). It checks both ends, so that a clock
-- that steps back ends the hold; otherwise the hold would begin anew and last as long as the step.

local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function read_state()
  local values = redis.call('HMGET', KEYS[1], 'run_id', 'epoch', 'revision', 'state', 'quantity', 'opens_at_ms',
    'closes_at_ms', 'admitted', 'settled', 'next_sequence', 'lowering', 'lowering_revision',
    'hold_from_ms', 'hold_until_ms')
  for field = 2, 10 do
    if not values[field] then return nil, {'STALE', 'missing'} end
  end
  if not values[1] then return nil, {'STALE', 'rebuilding'} end
  if values[1] ~= run_id() then return nil, {'STALE', 'run_id'} end
  local epoch, known = tonumber(values[2]), tonumber(ARGV[1])
  if epoch > known then return nil, {'EPOCH_AHEAD', epoch} end
  if epoch < known then return nil, {'STALE', 'epoch'} end
  local state = {
    epoch = epoch,
    revision = tonumber(values[3]),
    state = values[4],
    quantity = tonumber(values[5]),
    opens_at_ms = tonumber(values[6]),
    closes_at_ms = tonumber(values[7]),
    admitted = tonumber(values[8]),
    settled = tonumber(values[9]),
    next_sequence = tonumber(values[10]),
    lowering = values[11] and tonumber(values[11]),
    lowering_revision = values[12] and tonumber(values[12]),
    hold_from_ms = tonumber(values[13] or 0),
    hold_until_ms = tonumber(values[14] or 0),
  }
  if redis.call('HLEN', KEYS[2]) ~= state.admitted then return nil, {'STALE', 'tickets'} end
  if redis.call('ZCARD', KEYS[3]) ~= state.admitted - state.settled then return nil, {'STALE', 'pending'} end
  return state
end

local function refusal(campaign)
  local time = redis.call('TIME')
  local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if campaign.state == 'paused' then return {'PAUSED'}, now_ms end
  if campaign.state ~= 'open' then return {'CLOSED'}, now_ms end
  if now_ms < campaign.opens_at_ms then return {'NOT_OPEN', campaign.opens_at_ms, now_ms}, now_ms end
  if campaign.closes_at_ms and now_ms >= campaign.closes_at_ms then return {'CLOSED'}, now_ms end
  if campaign.admitted >= campaign.quantity then return {'SOLD_OUT'}, now_ms end
  if campaign.lowering and campaign.admitted >= campaign.lowering then return {'PAUSED'}, now_ms end
  return nil, now_ms
end

local function is_on_hold(campaign, now_ms)
  return campaign.hold_from_ms <= now_ms and now_ms < campaign.hold_until_ms
end
