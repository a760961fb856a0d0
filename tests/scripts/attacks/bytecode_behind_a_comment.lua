-- expects: SCRIPT_SYNTAX
#!/bin/lua
Lua
