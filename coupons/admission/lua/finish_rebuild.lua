#!lua
-- Swaps in the state that a rebuilder has built, in one step, if no other rebuilder has begun since.
--
-- KEYS  1 campaign   2 tickets   3 pending   4 rebuilder   5 built tickets   6 built pending
-- ARGV  1 token   2 run_id of the server on which it was built   3 number of tickets   4 number of pending tickets
--       5 epoch   6 revision   7 state   8 quantity   9 opens_at_ms   10 closes_at_ms, '' = never   11 next_sequence
-- Returns
--   {'REBUILT'}
--   {'NOT_THE_REBUILDER'}   another rebuilder began since; nothing was written
--   {'INCOMPLETE'}          the server restarted, or a part of the built state is missing; nothing was written

if redis.call('GET', KEYS[4]) ~= ARGV[1] then return {'NOT_THE_REBUILDER'} end
local tickets, pending = tonumber(ARGV[3]), tonumber(ARGV[4])
if run_id() ~= ARGV[2] or redis.call('HLEN', KEYS[5]) ~= tickets or redis.call('ZCARD', KEYS[6]) ~= pending then
  return {'INCOMPLETE'}
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
if tickets > 0 then
  redis.call('RENAME', KEYS[5], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
if pending > 0 then
  redis.call('RENAME', KEYS[6], KEYS[3])
  redis.call('PERSIST', KEYS[3])
end
redis.call('HSET', KEYS[1], 'run_id', run_id(), 'epoch', ARGV[5], 'revision', ARGV[6], 'state', ARGV[7],
  'quantity', ARGV[8], 'opens_at_ms', ARGV[9], 'closes_at_ms', ARGV[10], 'admitted', tickets,
  'settled', tickets - pending, 'next_sequence', ARGV[11])
return {'REBUILT'}
