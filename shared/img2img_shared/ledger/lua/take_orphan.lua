-- Prevents any submit of a job with this id, of which only the store has something. 0: it exists, or is being written.
local id = ARGV[1]
if redis.call('EXISTS', job_key(id)) == 1 or redis.call('ZSCORE', submissions_key(), id) then return 0 end
redis.call('SET', abandoned_key(id), 1, 'PX', KEEP)
return 1
