#!lua flags=allow-oom
-- Gives a user's ticket to a pseudonym, and takes over the epoch that PostgreSQL has raised for that.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch known to the caller before it raised it   2 epoch from now on   3 user id   4 pseudonym
-- Returns
--   {'ERASED'}     the pseudonym has the ticket now, pending if it was
--   {'NO_TICKET'}  the user has none; the epoch is the new one all the same
--   {'STALE', reason}  {'EPOCH_AHEAD', epoch}  nothing was written, see state.lua; a rebuild does the same
-- Example: EVALSHA ... 3 coupon:{c}:campaign coupon:{c}:tickets coupon:{c}:pending 1 2 42 erased-1f2e3d...  ->  ERASED

local campaign, reply = read_state()
if not campaign then return reply end

redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
local user, pseudonym = ARGV[3], ARGV[4]
local sequence = redis.call('HGET', KEYS[2], user)
if not sequence then return {'NO_TICKET'} end
redis.call('HDEL', KEYS[2], user)
redis.call('HSET', KEYS[2], pseudonym, sequence)
local score = redis.call('ZSCORE', KEYS[3], user)
if score then
  redis.call('ZREM', KEYS[3], user)
  redis.call('ZADD', KEYS[3], score, pseudonym)
end
return {'ERASED'}
