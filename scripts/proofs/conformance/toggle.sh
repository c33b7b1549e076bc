# Adds an expert to perstack.toml, or takes it away again; the file is replaced at once.
if grep -q '^\[experts."guest"\]' perstack.toml; then
  sed '/^# a guest$/,$d' perstack.toml >perstack.toml.new
else
  { cat perstack.toml; printf '# a guest\n[experts."guest"]\ndescription = "Comes and goes."\ninstruction = "Greet."\n'; } >perstack.toml.new
fi
mv perstack.toml.new perstack.toml
