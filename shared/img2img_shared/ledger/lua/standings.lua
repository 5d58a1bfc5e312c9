-- The ledger's knowledge of jobs by their ids: for each its tenant and its data, or '' and its standing: 'begun' (its
-- inputs are being written), 'removed' (it was removed, or can never be written), or 'unknown'.
local answers = {}
for i, id in ipairs(ARGV) do
  local h = redis.call('HMGET', job_key(id), 'tenant', 'data')
  local what = 'unknown'
  if redis.call('ZSCORE', submissions_key(), id) then
    what = 'begun'
  elseif redis.call('EXISTS', abandoned_key(id)) == 1 then
    what = 'removed'
  end
  answers[i] = h[1] and {h[1], h[2] or ''} or {'', what}
end
return answers
