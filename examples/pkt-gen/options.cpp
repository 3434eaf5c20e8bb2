// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <algorithm>
#include <array>

#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "settings.hpp"

namespace pkt_gen {

namespace {

using tool::parse_count;
using tool::parse_unsigned;
using text = std::string_view;

void set_function(settings& s, text v) {
    constexpr std::array<text, 4> names{"tx", "rx", "ping", "pong"};
    const auto at = std::find(names.begin(), names.end(), v);
    if (at == names.end()) tool::bad_value(v, "is no function; there are tx, rx, ping, pong");
    s.what = static_cast<function>(at - names.begin());
}

void set_length(settings& s, text v) {
    const unsigned n = parse_unsigned(v, 14, 16384);
    if (s.length)
        s.min_length = n;
    else
        s.length = n;
}

void set_ring_config(settings& s, text v) {
    std::array<unsigned*, 4> fields{&s.tx_slots, &s.rx_slots, &s.tx_rings, &s.rx_rings};
    std::size_t n = 0;
    for (text rest = v;;) {
        if (n == fields.size()) tool::bad_value(v, "has more than four numbers");
        const std::size_t comma = rest.find(',');
        *fields[n] = parse_unsigned(rest.substr(0, comma), 0, n < 2 ? 16384 : 256);
        ++n;
        if (comma == text::npos) break;
        rest.remove_prefix(comma + 1);
    }
    if (n == 1) s.rx_slots = s.tx_slots;
    if (n == 3) s.rx_rings = s.tx_rings;
}

// netmap's bits of -o; the ones that ask for a way of copying that nm has by itself say so.
void set_bits(settings& s, text v) {
    const unsigned bits = parse_unsigned(v, 0, 4095);
    if (bits & 1) s.notes.emplace_back("-o 1 (prefetch): nm's loops prefetch by themselves; nothing to ask for");
    s.touch |= (bits & 2) != 0;
    s.always_copy |= (bits & (4 | 8)) != 0;
    if (bits & 16) s.notes.emplace_back("-o 16 (timestamps): -f ping stamps its frames, others do not; use -f ping");
    if (bits & 32)
        s.notes.emplace_back(
            "-o 32 (indirect buffers): a switch is in another process, which does not see this one's memory; frames are sent from the ring's buffers");
    s.dump |= (bits & 64) != 0;
    if (bits & 128) s.notes.emplace_back("-o 128 means nothing to pkt-gen; leave it out");
    s.rubbish |= (bits & 256) != 0;
    s.random_src |= (bits & 512) != 0;
    s.random_dst |= (bits & 1024) != 0;
    s.style.statistics |= (bits & 2048) != 0;
}

void set_vnet(settings& s, text v) {
    const unsigned n = parse_unsigned(v, 0, 12);
    if (n != 0 && n != 10 && n != 12) tool::bad_value(v, "is no length of a virtio-net header; there are 0, 10 and 12");
    if (n != 0)
        s.notes.emplace_back(
            "-H: nm keeps the virtio-net header in the slot, not in front of the frame, and an empty one is none; frames go without");
}

constexpr tool::option<settings> table[] = {
    {'i', "interface", "PORT", "the port to work on: netmap:eth0, netmap:p{1, null:x ... (netmap(4)'s names)",
     [](settings& s, text v) { s.port = tool::checked_port(v); }},
    {'f', "function", "tx|rx|ping|pong", "what to do (default rx)", set_function},
    {'n', "count", "COUNT", "how many packets, or ping's transactions; 0 (default): no end",
     [](settings& s, text v) { s.count = parse_count(v, 0); }},
    {'l', "length", "BYTES",
     "packet size without CRC, 14 to 16384 (default 60; 78 for IPv6 ping); given a second time: random sizes from the second to the first",
     set_length},
    {'b', "burst", "COUNT", "packets per batch (default 512)",
     [](settings& s, text v) { s.burst = parse_unsigned(v, 1, 16384); }},
    {'4', "ipv4", "", "IPv4 (default)", [](settings& s, text) { s.family = 4; }},
    {'6', "ipv6", "", "IPv6", [](settings& s, text) { s.family = 6; }},
    {'d', "dst", "IP[:PORT[-IP:PORT]]", "destination, or a range of them ([IP6]:PORT for IPv6)",
     [](settings& s, text v) { s.dst = tool::parse_endpoints(v); }},
    {'s', "src", "IP[:PORT[-IP:PORT]]", "source, or a range of them",
     [](settings& s, text v) { s.src = tool::parse_endpoints(v); }},
    {'D', "dst-mac", "MAC", "destination MAC (default ff:ff:ff:ff:ff:ff)",
     [](settings& s, text v) { s.dst_mac = tool::parse_mac(v); }},
    {'S', "src-mac", "MAC", "source MAC (default the interface's, else 02:00:00:00:00:01)",
     [](settings& s, text v) { s.src_mac = tool::parse_mac(v); }},
    {'a', "cpu", "CPU", "pin the first thread to this CPU, further ones to the following",
     [](settings& s, text v) { s.cpu = static_cast<int>(parse_unsigned(v, 0, 4095)); }},
    {'c', "cpus", "COUNT", "use at most so many CPUs; 0 (default): all",
     [](settings& s, text v) { s.cpus = parse_unsigned(v, 0, 4096); }},
    {'p', "threads", "COUNT", "threads, each with one ring (default 1 for all rings)",
     [](settings& s, text v) { s.threads = parse_unsigned(v, 1, 256); }},
    {'T', "report", "MS", "milliseconds between reports (default 1000)",
     [](settings& s, text v) { s.report_ms = parse_unsigned(v, 1, 3'600'000); }},
    {'w', "wait-link", "SECONDS", "wait before starting (default 0: nm resets no link)",
     [](settings& s, text v) { s.wait_link = tool::parse_seconds(v); }},
    {'W', "exit-when-quiet", "", "rx: end when nothing has come for a second",
     [](settings& s, text) { s.exit_when_quiet = true; }},
    {'R', "rate", "PPS", "packets per second (default 0: as fast as it goes)",
     [](settings& s, text v) { s.rate = tool::parse_si(v); }},
    {'X', "dump", "", "print each packet in hex, to stderr", [](settings& s, text) { s.dump = true; }},
    {'P', "pcap", "FILE", "send the packets of this capture, over and over, without its timing",
     [](settings& s, text v) { s.pcap = v; }},
    {'z', "random-src", "", "random source addresses and ports", [](settings& s, text) { s.random_src = true; }},
    {'Z', "random-dst", "", "random destination addresses and ports", [](settings& s, text) { s.random_dst = true; }},
    {'r', "rubbish", "", "tx: send what lies in the buffers", [](settings& s, text) { s.rubbish = true; }},
    {'F', "frags", "COUNT", "tx: lay each packet over so many slots, 1 to 64",
     [](settings& s, text v) { s.frags = parse_unsigned(v, 1, nm::max_frags); }},
    {'M', "frag-size", "BYTES", "tx: at most so many bytes in each slot",
     [](settings& s, text v) { s.frag_size = parse_unsigned(v, 14, 16384); }},
    {'C', "conf", "TXSLOTS,RXSLOTS,TXRINGS,RXRINGS",
     "ring sizes and numbers to open the port with, 1 to 4 of them; 0: default", set_ring_config},
    {'H', "vnet-header", "BYTES", "0, 10 or 12; nm has it in the slot, so none is sent", set_vnet},
    {'I', "indirect", "", "indirect buffers: no port of pkt-gen's takes them, so frames are sent from the ring's",
     [](settings& s, text) {
         s.notes.emplace_back(
             "-I (indirect buffers): a switch is in another process, which does not see this one's memory; frames are sent from the ring's buffers");
     }},
    {'o', "options", "BITS",
     "netmap's OPT_ bits: 2 access, 4 and 8 copy always, 64 dump, 256 rubbish, 512 and 1024 random, 2048 statistics",
     set_bits},
    {'N', "no-units", "", "plain numbers in place of K, M, G", [](settings& s, text) { s.style.normal_units = false; }},
    {'A', "statistics", "", "mean and deviation of the rate over ten reports",
     [](settings& s, text) { s.style.statistics = true; }},
    {'B', "framing", "", "count preamble, gap and CRC in bits per second (24 bytes per packet)",
     [](settings& s, text) { s.style.framing = true; }},
    {'v', "verbose", "", "say more", [](settings& s, text) { ++s.verbose; }},
    {0, "peer", "PORT",
     "open a second port and work it from this program: it takes what tx sends, feeds rx and pong, answers ping. A pipe's other end is one",
     [](settings& s, text v) { s.peer = tool::checked_port(v); }},
    {0, "time", "SECONDS", "end after so long", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "require-mode", "MODE", "fail unless the port opens as zero-copy, copy, af_xdp, af_packet, pipe or null",
     [](settings& s, text v) {
         (void)tool::parse_mode(v);
         s.require_mode = v;
     },
     tool::mode_choices},
    {0, "watchable", "", "let other programs of this user watch the port: nm-dump -i PORT/rt", [](settings& s, text) { s.watchable = true; }},
    {0, "expect-loss", "FRAMES|PERCENT%", "exit 3 if more is lost", [](settings& s, text v) { s.expect.set_loss(v); }},
    {0, "expect-pps", "[<>=]RATE", "exit 3 if the mean rate is not so",
     [](settings& s, text v) { s.expect.set_pps(v); }},
    {0, "hgrm", "FILE", "ping: write the latencies in HdrHistogram's text format, in microseconds",
     [](settings& s, text v) { s.hgrm = v; }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout",
     [](settings& s, text) { s.style.json = true; }},
    {0, "csv", "", "the same as rows", [](settings& s, text) { s.style.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

tool::endpoint_range default_range(bool v6, bool destination) {
    tool::endpoint_range r;
    r.first = tool::parse_address(v6 ? (destination ? "fd00::2" : "fd00::1") : (destination ? "10.1.0.1" : "10.0.0.1"));
    r.last = r.first;
    return r;
}

}  // namespace

std::span<const tool::option<settings>> option_table() { return table; }

void settle(settings& s) {
    if (s.port.empty()) throw tool::usage_error("no port given; say -i PORT, for instance -i netmap:eth0");
    if (s.style.json && s.style.csv) throw tool::usage_error("--json and --csv both want stdout; choose one");
    if (s.metrics == "-" && (s.style.json || s.style.csv)) throw tool::usage_error("--metrics -, --json and --csv all want stdout; choose one");

    if (!s.pcap.empty() && (s.src || s.dst || s.src_mac || s.dst_mac || s.random_src || s.random_dst || s.length))
        s.notes.emplace_back("-P sends packets as they were captured: -s -d -S -D -z -Z -l change nothing in them");

    const bool v6 = s.family == 6 || (s.family == 0 && ((s.src && s.src->first.v6) || (s.dst && s.dst->first.v6)));
    for (const auto* r : {&s.src, &s.dst})
        if (*r && (*r)->first.v6 != v6)
            throw tool::usage_error(v6 ? "-s and -d must both be IPv6 addresses"
                                       : "-4 and an IPv6 address contradict each other");
    s.family = v6 ? 6 : 4;
    if (!s.src) s.src = default_range(v6, false);
    if (!s.dst) s.dst = default_range(v6, true);

    const bool pings = s.what == function::ping;
    const unsigned ping_length = v6 ? 78 : 60;
    if (!s.length) s.length = pings ? ping_length : 60;
    if (pings && *s.length < (v6 ? 78U : 58U))
        throw tool::usage_error("-l: a ping carries a number and a time, so it has at least " +
                                std::string(v6 ? "78" : "58") + " bytes");
    if (s.min_length > *s.length) std::swap(s.min_length, *s.length);
    if (s.min_length != 0 && pings) throw tool::usage_error("-l: ping sends packets of one length");
    if (pings && s.threads > 1) throw tool::usage_error("-p: ping has one packet under way, and so one thread");
    const auto only = [&s](bool given, function f, const char* letter) {
        if (given && s.what != f)
            s.notes.emplace_back(std::string(letter) + " is for -f " + name_of(f) + " and does nothing in -f " +
                                 name_of(s.what));
    };
    only(!s.pcap.empty(), function::tx, "-P");
    only(s.rubbish, function::tx, "-r");
    only(s.frags != 0, function::tx, "-F");
    only(s.frag_size != 0, function::tx, "-M");
    only(s.exit_when_quiet, function::rx, "-W");
    only(!s.hgrm.empty(), function::ping, "--hgrm");
    if ((s.what == function::rx || s.what == function::pong) && s.rate > 0)
        s.notes.emplace_back("-R is for sending and does nothing in -f " + std::string(name_of(s.what)));
}

}  // namespace pkt_gen
