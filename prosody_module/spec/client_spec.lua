local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local new_client = support.library("client").new;

-- A net.http whose requests are answered by the test; `pooled` gives every request a connection used before.
local function new_world(pooled)
	local world = { made = 0, requests = {}, timers = {}, calls = {} };
	local function new_http()
		world.made = world.made + 1;
		local http = { pool = pooled and {} or nil };
		function http.request(_, url, options, callback)
			local request = { url = url, options = options, callback = callback };
			request.conn = pooled and { close = function () request.is_closed = true; end } or nil;
			function request.cancel(self, reason)
				self.is_cancelled = true;
				callback(reason, 0);
			end
			table.insert(world.requests, request);
			return request;
		end
		return http;
	end
	world.client = new_client {
		url = "http://127.0.0.1:8267/prosody/a.test", new_http = new_http;
		headers = function (id) return { ["webhook-id"] = id }; end;
		timer = function (seconds, callback)
			local timer = { seconds = seconds, callback = callback };
			function timer.stop(self) self.is_stopped = true; end
			table.insert(world.timers, timer);
			return timer;
		end;
	};
	world.give_up = world.client:post("id-1", "body", 5, function (code, answer)
		table.insert(world.calls, code .. " " .. tostring(answer));
	end);
	return world;
end

describe("a request to the bridge", function ()
	it("is a signed POST, and its answer stops the timer", function ()
		local world = new_world();
		local request = world.requests[1];
		assert.equal("POST", request.options.method);
		assert.equal("body", request.options.body);
		assert.equal("id-1", request.options.headers["webhook-id"]);
		request.callback("answer", 200);
		assert.same({ "200 answer" }, world.calls);
		assert.is_true(world.timers[1].is_stopped);
	end);

	it("ends at its time, and takes the connection with it, so that a late answer meets nobody", function ()
		local world = new_world(true);
		world.timers[1].callback();
		assert.same({ "0 timeout" }, world.calls);
		assert.is_true(world.requests[1].is_cancelled);
		assert.is_true(world.requests[1].is_closed);
		assert.equal(2, world.made);
		world.requests[1].callback("late", 200);
		assert.same({ "0 timeout" }, world.calls);
	end);

	it("ends at its time though no connection was made yet", function ()
		local world = new_world();
		world.requests[1].cancel = nil;
		world.timers[1].callback();
		assert.same({ "0 timeout" }, world.calls);
	end);

	it("is repeated once, with the same id, where a connection used before was closed", function ()
		local world = new_world(true);
		world.requests[1].callback("closed", 0);
		assert.same({}, world.calls);
		assert.equal("id-1", world.requests[2].options.headers["webhook-id"]);
		world.requests[2].callback("closed", 0);
		assert.same({ "0 closed" }, world.calls);
		assert.equal(2, #world.requests);
	end);

	it("is not repeated on a fresh connection", function ()
		local world = new_world();
		world.requests[1].callback("connection refused", 0);
		assert.same({ "0 connection refused" }, world.calls);
		assert.equal(1, #world.requests);
	end);

	it("can be given up, and then calls nobody", function ()
		local world = new_world(true);
		world.give_up();
		world.timers[1].callback();
		assert.same({}, world.calls);
		assert.is_true(world.requests[1].is_cancelled);
	end);
end);
