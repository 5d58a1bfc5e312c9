-- Notes that a job's inputs are about to be written to the store, so that they are found if nobody commits the job.
local job = ARGV[1]
redis.call('ZADD', submissions_key(), 'NX', NOW, job)
