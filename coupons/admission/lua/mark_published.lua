#!lua flags=allow-oom
-- Notes the positions in the topic of pending tickets' messages.
--
-- KEYS  1 campaign   2 tickets   3 pending
-- ARGV  1 epoch that the messages carry   2.. triples of user id, sequence, score (coupons/messaging/positions.py), 333 at most
-- Returns how many pending tickets got a new score.
-- Skips tickets that are off pending or have another sequence by now. Writes nothing if the epoch has changed: a message of the
-- former epoch may have landed after the rebuild had read the topic, where no later rebuild looks (decision 0010).

if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end

local marked = 0
for i = 2, #ARGV, 3 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    marked = marked + redis.call('ZADD', KEYS[3], 'XX', 'CH', ARGV[i + 2], ARGV[i])
  end
end
return marked
