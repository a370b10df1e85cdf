#!lua flags=allow-oom
-- Register the database of the workers, if none is registered; return the one that is registered.
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
