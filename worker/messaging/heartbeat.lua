#!lua flags=allow-oom
-- Renew this worker's lease, and move the messages of lost workers back to their queues; return how
-- many. A taker, "instance/number", is one connection of one worker (the instance). A lost taker
-- stays registered for a minute, because its last command may still move a message into its slots.
-- prefix: what the keys of workers begin with; queues: what the queues, from ARGV[7] on, begin with;
-- about: the version and host of this worker. Older versions write 1 in its place.
local prefix, queues, me, lease, slots = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local about = ARGV[6]
local my_instance = string.match(me, '^[^/]+')
local now = tonumber(redis.call('TIME')[1])
redis.call('SET', prefix .. '.alive.' .. my_instance, about, 'EX', lease)
redis.call('SADD', prefix .. '.takers', me)
redis.call('HDEL', prefix .. '.lost', me)
local requeued = 0
for _, taker in ipairs(redis.call('SMEMBERS', prefix .. '.takers')) do
  local instance = string.match(taker, '^[^/]+')
  local lost = redis.call('EXISTS', prefix .. '.alive.' .. instance) == 0
  if taker ~= me and (instance == my_instance or lost) then
    local moved = 0
    for queue = 7, #ARGV do
      for slot = 0, slots - 1 do
        local key = prefix .. '.taken.' .. taker .. '.' .. ARGV[queue] .. '.' .. slot
        while redis.call('LMOVE', key, queues .. ARGV[queue], 'LEFT', 'RIGHT') do
          moved = moved + 1
        end
      end
    end
    if lost then
      local running = prefix .. '.running.' .. instance
      for _, id in ipairs(redis.call('HKEYS', running)) do
        redis.call('HINCRBY', prefix .. '.attempts', id, 1)
      end
      redis.call('DEL', running)
    end
    redis.call('HSETNX', prefix .. '.lost', taker, now)
    if moved == 0 and now - redis.call('HGET', prefix .. '.lost', taker) > 60 then
      redis.call('SREM', prefix .. '.takers', taker)
      redis.call('HDEL', prefix .. '.lost', taker)
    end
    requeued = requeued + moved
  end
end
return requeued
