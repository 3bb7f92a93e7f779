-- prosodyctl mod_incident_bridge list|undo: what an operator can do about mitigations while the bridge is away.
-- This is another process than the server: it reads what the server stored and leaves wishes for it.

local usage = [[
usage: prosodyctl mod_incident_bridge list [HOST]
       prosodyctl mod_incident_bridge undo ID [HOST]

list shows what is suspended, blocked and banned; undo ends one of them. A running Prosody notices within seconds,
one that is stopped when it starts. The incident bridge is not needed.]];

-- Hostile text must not steer the terminal: no control characters, and none that turn the writing round.
local function show(text)
	text = tostring(text):gsub("[%c\127]", "?"):gsub("\194[\128-\159]", "?");
	return (text:gsub("\226\128[\142\143\168-\174]", "?"):gsub("\226\129[\166-\169]", "?"):gsub("\216\156", "?"));
end

local function describe(row)
	local target = row.account or row.domain or row.jid .. " in " .. row.room;
	return ("%s  %s %s  until %s%s"):format(show(row.mitigation), row.type, show(target), row.expires_at,
		row.reason ~= "" and "  (" .. show(row.reason) .. ")" or "");
end

-- deps: mitigations (the library); stores: host -> { state = read() -> the stored state or nil, wish(id) -> whether it
-- was stored, is_wished(id) }; hosts: the names, sorted; print(text); wait(done) -> whether done() became true in time.
local function list(deps, hosts)
	local count = 0;
	for _, host in ipairs(hosts) do
		local state = deps.stores[host].read();
		local after;
		repeat
			local rows;
			rows, after = deps.mitigations.list(state or deps.mitigations.new_state(), after);
			for _, row in ipairs(rows) do
				count = count + 1;
				local note = deps.stores[host].is_wished(row.mitigation) and "  [to be undone when Prosody runs]" or "";
				deps.print(host .. "  " .. describe(row) .. note);
			end
		until not after;
	end
	if count == 0 then deps.print("No mitigations"); end
	return 0;
end

local function is_active(deps, host, id)
	local state = deps.stores[host].read();
	return state and state.active[id] ~= nil or false;
end

local function undo(deps, hosts, id)
	if not deps.mitigations.check_id(id) then
		deps.print("That is not an id; `prosodyctl mod_incident_bridge list` shows them");
		return 2;
	end
	local found;
	for _, host in ipairs(hosts) do
		if is_active(deps, host, id) then
			if found then
				deps.print(("%s is an id on %s and on %s: name the host after it"):format(id, found, host));
				return 2;
			end
			found = host;
		end
	end
	if not found then
		deps.print(("No mitigation %s; `prosodyctl mod_incident_bridge list` shows them"):format(id));
		return 1;
	end
	if not deps.stores[found].wish(id) then
		deps.print("Could not write to Prosody's storage: see the message above");
		return 1;
	end
	if deps.wait(function () return not is_active(deps, found, id); end) then
		deps.print(("%s is undone on %s"):format(id, found));
	else
		deps.print(("%s will be undone on %s when Prosody runs: it does not seem to now"):format(id, found));
	end
	return 0;
end

-- The exit code: 0 done, 1 not possible, 2 wrong use.
local function run(deps, arg)
	local command = arg[1];
	local host = command == "list" and arg[2] or command == "undo" and arg[3] or nil;
	local hosts = deps.hosts;
	if host then
		if not deps.stores[host] then
			deps.print(("mod_incident_bridge is not enabled on %s"):format(show(host)));
			return 2;
		end
		hosts = { host };
	end
	if command == "list" and #arg <= 2 then return list(deps, hosts); end
	if command == "undo" and arg[2] and #arg <= 3 then return undo(deps, hosts, arg[2]); end
	deps.print(usage);
	return 2;
end

return { run = run };
