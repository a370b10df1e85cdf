#!lua
-- Store the copy of a batch's status, unless the present one, of the same generation, counts more
-- chunks. KEYS[1] is the copy. ARGV: the generation, the applied chunks, the copy, its milliseconds.
local present = redis.call('GET', KEYS[1])
if present then
  local generation, chunks = string.match(present, '^(%S+) (%d+),')
  if generation == ARGV[1] and tonumber(chunks) > tonumber(ARGV[2]) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
