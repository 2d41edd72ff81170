-- Notes where in the topic the messages of pending tickets lie. A ticket that is no longer pending stays away (XX).
--
-- KEYS  1 pending
-- ARGV  pairs of score (see coupons/positions.py) and user id, 1,000 pairs at most
-- Returns how many users were pending and got a new score.
-- It checks no epoch: a position is true whichever mend came in between, and no count changes.

return redis.call('ZADD', KEYS[1], 'XX', 'CH', unpack(ARGV))
