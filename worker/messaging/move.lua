#!lua flags=allow-oom
-- Move a message from one list to another, also on a full Redis: a full queue must drain, and there
-- only what frees memory is allowed without the flag above.
return redis.call('LMOVE', KEYS[1], KEYS[2], ARGV[1], ARGV[2])
