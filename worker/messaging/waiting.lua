#!lua flags=no-writes,allow-oom
-- Look at every message that waits in a queue or lies in the slot of a worker, at one moment. Return
-- the number of chunks, then each message that is, or may be, a single request; or nil if there is
-- too much to look at, or a message that is larger than a worker accepts: its values could fill the
-- memory of the caller. KEYS are the lists of the queues, ARGV[1] the options as JSON. A message is
-- recognized by a task name in it, as a JSON string; one that contains the name of the request task,
-- or none of ours, may be a request.
local options = cjson.decode(ARGV[1])
local found, messages, bytes = { 0 }, options.messages, options.bytes

local function names_one_of(tasks, message)
  for _, task in ipairs(tasks) do
    if string.find(message, '"' .. task .. '"', 1, true) then
      return true
    end
  end
  return false
end

local function look(message)
  messages, bytes = messages - 1, bytes - #message
  if #message > options.largest then
    bytes = -1
    return
  end
  if not names_one_of(options.requests, message) then
    if names_one_of(options.chunks, message) then
      found[1] = found[1] + 1
      return
    elseif names_one_of(options.lookups, message) then
      return
    end
  end
  found[#found + 1] = message
end

local lengths, total = {}, 0
for _, list in ipairs(KEYS) do
  lengths[list] = redis.call('LLEN', list)
  total = total + lengths[list]
end
if total > messages then
  return nil
end
for _, list in ipairs(KEYS) do
  for index = 0, lengths[list] - 1 do
    look(redis.call('LINDEX', list, index))
    if bytes < 0 then
      return nil
    end
  end
end
for _, taker in ipairs(redis.call('SMEMBERS', options.takers)) do
  for _, queue in ipairs(options.queues) do
    local slots = {}
    for slot = 0, options.slots - 1 do
      slots[#slots + 1] = options.taken .. '.' .. taker .. '.' .. queue .. '.' .. slot
    end
    if redis.call('EXISTS', unpack(slots)) > 0 then
      for _, slot in ipairs(slots) do
        local message = redis.call('LINDEX', slot, 0)
        if message then
          look(message)
        end
        if messages < 0 or bytes < 0 then
          return nil
        end
      end
    end
  end
end
return found
