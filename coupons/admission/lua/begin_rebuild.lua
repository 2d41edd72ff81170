#!lua
-- Closes a campaign for admission and gives the caller the right to rebuild it. A later rebuilder takes over the right.
--
-- KEYS  1 campaign   2 rebuilder
-- ARGV  1 token of the rebuilder
-- Returns {'BEGUN', run_id of this server, next_sequence, epoch}: the last two are the former state's, false if it had
-- none. Without its run_id the hash is STALE for every script (reason `rebuilding`).

if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HDEL', KEYS[1], 'run_id') end
redis.call('SET', KEYS[2], ARGV[1])
return {'BEGUN', run_id(), unpack(redis.call('HMGET', KEYS[1], 'next_sequence', 'epoch'))}
