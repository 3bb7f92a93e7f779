-- The wiring of prosodyctl mod_incident_bridge, which runs outside the server.

local config = require "core.configmanager";
local modulemanager = require "core.modulemanager";
local storagemanager = require "core.storagemanager";
local is_running = require "util.prosodyctl".isrunning;
local sleep = require "socket".sleep;

local step_seconds = 0.2;

-- A running Prosody is sure to look; one that is stopped is not worth waiting for.
local function seconds_to_wait()
	local is_known, running = is_running();
	if not is_known then return 6; end -- it has no pidfile
	return running and 20 or 0;
end

local function wait(done)
	for _ = 1, seconds_to_wait() / step_seconds do
		if done() then return true; end
		sleep(step_seconds);
	end
	return done();
end

local function is_enabled(host)
	if not config.get(host, "defined") then return false; end
	local modules = modulemanager.get_modules_for_host(host);
	return modules:contains("incident_bridge");
end

local function open_stores(module, mitigations, host)
	storagemanager.initialize_host(host);
	local context = module:context(host);
	local store = context:open_store(mitigations.store, "keyval");
	local wishes = context:open_store(mitigations.undo_store, "keyval");
	return {
		read = function () return (store:get(nil)); end;
		wish = function (id) return wishes:set(mitigations.wish_key(id), { at = os.time() }); end;
		is_wished = function (id) return wishes:get(mitigations.wish_key(id)) ~= nil; end;
	};
end

local function command(module)
	local mitigations = module:require "mitigations";
	local run = module:require "prosodyctl".run;
	return function (arg)
		local hosts, stores = {}, {};
		for host in pairs(prosody.hosts) do
			if is_enabled(host) then hosts[#hosts + 1] = host; end
		end
		table.sort(hosts);
		for _, host in ipairs(hosts) do stores[host] = open_stores(module, mitigations, host); end
		return run({ mitigations = mitigations, hosts = hosts, stores = stores, print = print, wait = wait }, arg);
	end;
end

return { command = command };
