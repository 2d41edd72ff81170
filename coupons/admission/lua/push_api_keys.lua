-- Writes the snapshot of the services' API keys, unless somebody else has written one since the caller looked.
--
-- KEYS  1 hash of the snapshot
-- ARGV  1 version that the caller read before it read PostgreSQL (0 = none)   2 document
-- Returns {'PUSHED', version}, or {'RACED'}: look again in both.

local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if version ~= tonumber(ARGV[1]) then return {'RACED'} end
redis.call('HSET', KEYS[1], 'run_id', run_id(), 'version', version + 1, 'document', ARGV[2])
return {'PUSHED', version + 1}
