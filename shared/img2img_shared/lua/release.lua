-- An image is given back unfinished, if this attempt at it is the current one.
local model, nonce, delay = unpack(ARGV)
local claim = drop(model, nonce)
if not claim then return 0 end
hand_back(model, claim, tonumber(delay))
return 1
