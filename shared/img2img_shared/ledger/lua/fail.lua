-- Reports that an image failed for good, if this attempt is the current one.
local model, nonce, reason = unpack(ARGV)
local claim = drop(model, nonce)
if not claim then return 0 end
fail(claim, reason)
return 1
