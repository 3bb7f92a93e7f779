local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local webhook = support.library "webhook";

local key = ("k"):rep(32);
local now = 1795302600;

local function read_vectors()
	local file = assert(io.open(support.root .. "/tests/vectors/signature.json"));
	local vectors = assert(json.decode(file:read("*a")));
	file:close();
	return vectors;
end

local function headers_of(body, changes)
	local headers = {
		webhook_id = "id-1";
		webhook_timestamp = tostring(now);
		webhook_signature = webhook.sign(key, "id-1", tostring(now), body);
	};
	for name, value in pairs(changes or {}) do headers[name] = value or nil; end
	return headers;
end

local function refusal_of(headers, body, time)
	local ok, status, content = webhook.verify({ key }, headers, body or "{}", time or now);
	assert.is_nil(ok);
	return status, content;
end

describe("the signature of a webhook", function ()
	it("is what the standard's own library makes of the shared vectors", function ()
		local vectors = read_vectors();
		assert.is_true(#vectors > 0);
		for _, one in ipairs(vectors) do
			local timestamp = ("%d"):format(one.timestamp);
			assert.equal(one.signature, webhook.sign(assert(webhook.read_secret(one.secret)), one.id, timestamp, one.body));
		end
	end);

	it("is accepted if any of several matches any of the keys", function ()
		local body = "{}";
		local headers = headers_of(body, {
			webhook_signature = "v1a,other v1,AAAA " .. webhook.sign(key, "id-1", tostring(now), body);
		});
		assert.is_true(webhook.verify({ ("o"):rep(32), key }, headers, body, now));
	end);

	it("is made of the headers that are sent", function ()
		local headers = webhook.headers(key, "id-1", "{}", now + 0.7);
		assert.is_true(webhook.verify({ key }, {
			webhook_id = headers["webhook-id"];
			webhook_timestamp = headers["webhook-timestamp"];
			webhook_signature = headers["webhook-signature"];
		}, "{}", now));
	end);

	it("is refused for another body, id, time or key", function ()
		assert.equal(401, refusal_of(headers_of("{}"), "{ }"));
		assert.equal(401, refusal_of(headers_of("{}", { webhook_id = "id-2" })));
		assert.equal(401, refusal_of(headers_of("{}", { webhook_timestamp = tostring(now + 1) })));
		assert.is_nil((webhook.verify({ ("o"):rep(32) }, headers_of("{}"), "{}", now)));
	end);

	it("is refused with our own time outside of five minutes", function ()
		local headers = headers_of("{}");
		assert.is_true(webhook.verify({ key }, headers, "{}", now + 300));
		assert.is_true(webhook.verify({ key }, headers, "{}", now - 300));
		local status, content = refusal_of(headers, "{}", now + 301);
		assert.equal(401, status);
		assert.same({ error = "timestamp out of tolerance", now = now + 301 }, content);
	end);

	it("is looked at only when every header is there and makes sense", function ()
		for _, name in ipairs { "webhook_id", "webhook_timestamp", "webhook_signature" } do
			assert.equal(400, refusal_of(headers_of("{}", { [name] = false })));
		end
		assert.equal(400, refusal_of(headers_of("{}", { webhook_timestamp = "-1" })));
		assert.equal(400, refusal_of(headers_of("{}", { webhook_timestamp = "1e9" })));
		assert.equal(400, refusal_of(headers_of("{}", { webhook_signature = "v2,abc" })));
		assert.equal(400, refusal_of(headers_of("{}", { webhook_id = ("x"):rep(257) })));
	end);

	it("is not computed for a body over 1 MiB", function ()
		local body = (" "):rep(webhook.max_body_bytes + 1);
		assert.equal(413, refusal_of(headers_of("{}"), body));
	end);
end);

describe("a secret", function ()
	it("may be followed by a line break, as files are", function ()
		assert.equal(("k"):rep(24), webhook.read_secret("whsec_" .. ("a2tr"):rep(8) .. "\n"));
	end);

	it("is refused with the reason, which never shows it", function ()
		local too_short, too_long = "whsec_" .. ("a2tr"):rep(7), "whsec_" .. ("a2tr"):rep(22);
		local wrong = { "", "a2tra2tr", "whsec_", "whsec_a2t", "whsec_%%%%", too_short, too_long };
		for _, secret in ipairs(wrong) do
			local got, why = webhook.read_secret(secret);
			assert.is_nil(got);
			assert.is_string(why);
			assert.is_nil(why:find("a2t", 1, true));
		end
		assert.is_nil((webhook.read_secret(5)));
	end);

	it("may be one or two, and is asked for when it is missing", function ()
		local one, other = "whsec_" .. ("a2tr"):rep(8), "whsec_" .. ("b2xk"):rep(8);
		assert.same({ ("kkk"):rep(8) }, webhook.read_secrets(one));
		assert.same({ ("kkk"):rep(8), ("old"):rep(8) }, webhook.read_secrets({ one, other }));
		assert.is_nil((webhook.read_secrets(nil)));
		assert.is_nil((webhook.read_secrets({ one, one, one })));
	end);
end);

describe("the recorded answers", function ()
	it("are given for ten minutes", function ()
		local recorded = webhook.new_recorded(10, 600);
		recorded:put("id-1", "body", 0);
		assert.equal("body", recorded:get("id-1", 600));
		assert.is_nil(recorded:get("id-1", 601));
	end);

	it("are bounded by number, the oldest leaving first", function ()
		local recorded = webhook.new_recorded(2, 600);
		for i = 1, 3 do recorded:put("id-" .. i, "body", i); end
		assert.is_nil(recorded:get("id-1", 3));
		assert.equal("body", recorded:get("id-3", 3));
	end);

	it("leave when they are too old, though there is room", function ()
		local recorded = webhook.new_recorded(10, 600);
		recorded:put("id-1", "body", 0);
		recorded:put("id-2", "body", 601);
		assert.equal(1, recorded.answers:count());
	end);
end);
