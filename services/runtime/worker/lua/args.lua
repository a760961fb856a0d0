-- `ARGS`: named arguments by name, positional ones as 1..n, the script's name as 0; all text.
-- `arg`: the positional ones, with the name as 0, as Lua's own interpreter has it.

local kit = ...

local next, tostring = next, tostring

-- Gives the positional arguments, which are the chunk's `...` too.
function kit.set_arguments(name, arguments)
  local positional, named = arguments.positional or {}, arguments.named or {}
  local ARGS, arg = {[0] = name}, {[0] = name}
  for key, value in next, named do ARGS[key] = tostring(value) end
  for i = 1, #positional do
    ARGS[i] = tostring(positional[i])
    arg[i] = ARGS[i]
  end
  kit.env.ARGS, kit.env.arg = ARGS, arg
  return arg
end
