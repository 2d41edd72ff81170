-- Reads the snapshot of the services' API keys. It is current when it was pushed to this very server process: after a
-- restart or a failover Redis may have an older one, in which a revoked key is still good.
--
-- KEYS  1 hash of the snapshot
-- Returns {'CURRENT', version, document, now} or {'NOT_CURRENT', version}; version 0 = there is none, now = Redis's time in s.

local held = redis.call('HMGET', KEYS[1], 'run_id', 'version', 'document')
if not held[1] then return {'NOT_CURRENT', 0} end
if held[1] ~= run_id() then return {'NOT_CURRENT', tonumber(held[2])} end
return {'CURRENT', tonumber(held[2]), held[3], redis.call('TIME')[1]}
