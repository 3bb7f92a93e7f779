-- Requests to the bridge, each with a timer of its own: Prosody's HTTP client waits for an answer for ever.

local client_methods = {};
local client_mt = { __index = client_methods };

-- deps: url; new_http() -> a net.http object; headers(id, body) -> the signed headers;
-- timer(seconds, callback) -> something with stop().
local function new(deps)
	return setmetatable({ deps = deps, http = deps.new_http() }, client_mt);
end

-- The connection must go: a late answer on it would be taken for that of the next request.
local function abandon(client, request)
	client.http = client.deps.new_http();
	if type(request) ~= "table" then return; end
	local conn = request.conn;
	if request.cancel then request:cancel("timeout"); end
	if conn then conn:close(); end
end

-- Calls back once, with the HTTP status and the body or with 0 and a reason. Returns a function that gives up at once
-- and makes no call.
function client_methods:post(id, body, seconds, callback)
	local is_done, is_reused = false, false;
	local request, timer;

	local function finish(code, answer)
		is_done = true;
		if timer then timer:stop(); end
		callback(code, answer);
	end

	local function attempt(may_repeat)
		is_reused = false;
		local sent = self.http:request(self.deps.url, {
			method = "POST", body = body, headers = self.deps.headers(id, body);
		}, function (answer, code)
			if is_done then return; end
			-- the bridge may have closed the idle connection just before it was used again
			if code ~= 0 or not is_reused or not may_repeat then return finish(code, answer); end
			self.http = self.deps.new_http();
			attempt(false);
		end);
		if type(sent) ~= "table" then return; end
		request = sent;
		is_reused = self.http.pool and sent.conn and true or false;
	end

	attempt(true);
	if is_done then return function () end; end
	timer = self.deps.timer(seconds, function ()
		if is_done then return; end
		is_done = true;
		abandon(self, request);
		callback(0, "timeout");
	end);
	return function ()
		if is_done then return; end
		is_done = true;
		timer:stop();
		abandon(self, request);
	end
end

return { new = new };
