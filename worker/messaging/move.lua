#!lua flags=allow-oom
-- Move a message from one list to another, even on a full Redis, so that workers can drain it.
-- Without the flag above, a full Redis refuses every command that might use more memory.
return redis.call('LMOVE', KEYS[1], KEYS[2], ARGV[1], ARGV[2])
