-- A job's inputs are about to be written into the store. Should nobody commit it, they are found by this.
local job = ARGV[1]
redis.call('ZADD', submissions_key(), 'NX', NOW, job)
