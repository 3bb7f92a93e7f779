-- mod_bench_answer: the least a Prosody can do about an incident report: answer it in-process and forget it.
local st = require "util.stanza";

module:hook("iq-set/host/urn:bench:report", function (event)
	event.origin.send(st.reply(event.stanza));
	return true;
end);
