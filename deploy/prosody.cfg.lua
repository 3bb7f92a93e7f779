-- What Prosody needs for the incident bridge, as a file of its own: copy it to /etc/prosody/conf.d/incident-bridge.cfg.lua
-- (Debian's configuration includes that folder), change the marked lines, and restart Prosody.

-- The folder into which mod_incident_bridge was copied. If your configuration has plugin_paths, add the folder there
-- and remove this line.
plugin_paths = { "/usr/local/lib/prosody/modules" }

-- Answers leave at once instead of waiting up to 40 ms for the other side's acknowledgement. If your configuration has
-- network_settings, add it there and remove this line.
network_settings = { nagle = false }

VirtualHost "example.org" -- change: your host, already defined in prosody.cfg.lua; once more for each further host
	-- If your VirtualHost has modules_enabled of its own, add the name there and remove this line.
	modules_enabled = { "incident_bridge" }
	incident_bridge_url = "http://127.0.0.1:8267" -- server.ingest_listen of the bridge; https if it is another machine
	incident_bridge_secret = "whsec_..." -- change: hosts."example.org".secret of the bridge
