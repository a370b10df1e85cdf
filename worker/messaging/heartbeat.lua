#!lua flags=allow-oom
-- Give a sign of life, and move what lost workers hold back to its queue; returns how many messages.
-- A taker is "instance/number"; an instance has one for each of its connections in turn. The dead
-- stay registered for a minute: what they asked for last may still come to their slots.
local prefix, me, lease, slots = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local mine = string.match(me, '^[^/]+')
local now = tonumber(redis.call('TIME')[1])
redis.call('SET', prefix .. '.alive.' .. mine, '1', 'EX', lease)
redis.call('SADD', prefix .. '.takers', me)
redis.call('HDEL', prefix .. '.lost', me)
local back = 0
for _, taker in ipairs(redis.call('SMEMBERS', prefix .. '.takers')) do
  local instance = string.match(taker, '^[^/]+')
  local lost = redis.call('EXISTS', prefix .. '.alive.' .. instance) == 0
  if taker ~= me and (instance == mine or lost) then
    local found = 0
    for queue = 5, #ARGV do
      for slot = 0, slots - 1 do
        local key = prefix .. '.taken.' .. taker .. '.' .. ARGV[queue] .. '.' .. slot
        while redis.call('LMOVE', key, ARGV[queue], 'LEFT', 'RIGHT') do
          found = found + 1
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
    if found == 0 and now - redis.call('HGET', prefix .. '.lost', taker) > 60 then
      redis.call('SREM', prefix .. '.takers', taker)
      redis.call('HDEL', prefix .. '.lost', taker)
    end
    back = back + found
  end
end
return back
