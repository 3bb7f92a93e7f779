std = "min"
globals = { "module", "prosody" }
max_line_length = 130
files["spec"] = { std = "min+busted" }
