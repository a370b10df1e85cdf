#!lua flags=allow-oom
-- Move the next message of a queue into a slot, and those after it into further slots, as long as
-- each is small and names the task; return the messages. KEYS: the queue, then the slots. ARGV: the
-- most bytes of a small message, and its task.
local most, task = tonumber(ARGV[1]), '"' .. ARGV[2] .. '"'
local taken = {}
for slot = 2, #KEYS do
  local message = redis.call('LINDEX', KEYS[1], -1)
  if not message then
    break
  end
  local is_small = #message <= most and string.find(message, task, 1, true)
  if slot > 2 and not is_small then
    break
  end
  taken[#taken + 1] = redis.call('LMOVE', KEYS[1], KEYS[slot], 'RIGHT', 'LEFT')
end
return taken
