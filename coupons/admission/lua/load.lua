#!lua
-- Creates a campaign's hash, the first time only: the caller has raised the epoch from 0 to 1 in PostgreSQL before.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch   2 revision   3 state   4 quantity   5 opens_at_ms   6 closes_at_ms, '' = never
-- Returns {'LOADED'}, or {'EXISTS'} if any of the keys exists already: then nothing was written.

if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) > 0 then return {'EXISTS'} end
redis.call('HSET', KEYS[1], 'run_id', run_id(), 'epoch', ARGV[1], 'revision', ARGV[2], 'state', ARGV[3],
  'quantity', ARGV[4], 'opens_at_ms', ARGV[5], 'closes_at_ms', ARGV[6], 'admitted', 0, 'settled', 0,
  'next_sequence', 1)
return {'LOADED'}
