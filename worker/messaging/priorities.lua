#!lua flags=allow-oom
-- Move messages that were published with a priority to the end of their queue, at most ARGV[1];
-- return how many. KEYS: the queue, then its lists by priority, the highest first.
local most, moved = tonumber(ARGV[1]), 0
for list = 2, #KEYS do
  while moved < most and redis.call('LMOVE', KEYS[list], KEYS[1], 'RIGHT', 'LEFT') do
    moved = moved + 1
  end
end
return moved
