// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Holds a model against a trace of its device (recording_bar.hpp has the format): the driver's part is done to the model again,
// register by register and descriptor by descriptor, and whatever the device answered then, the model must answer now: every
// value read, and every byte of memory that was written, and no other.

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "nm/ports/sim_bus.hpp"

namespace nm::test {

struct replay_result {
    std::string mismatch;  // the first; empty: none
    std::size_t reads = 0, writes = 0, memory = 0;  // events compared or done
};

/// `make(device id, mac)` is a model; devices are wired to each other in pairs.
using model_maker = std::function<std::unique_ptr<sim_device>(std::uint16_t, const std::array<std::uint8_t, 6>&)>;

class nic_replay {
public:
    explicit nic_replay(model_maker make) : make_(std::move(make)) {}

    [[nodiscard]] replay_result run(const std::string& trace) {
        find_macs(trace);
        std::istringstream in(trace);
        std::string line;
        while (done_.mismatch.empty() && std::getline(in, line)) {
            ++number_;
            event(line);
        }
        if (done_.mismatch.empty()) compare_memory();
        return done_;
    }

private:
    struct piece {
        std::vector<std::byte> now, before, expected;
        std::vector<bool> said;  // by the trace, of the last event
    };

    // The first thing that a driver reads of RAL and RAH is what the device came with.
    void find_macs(const std::string& trace) {
        std::istringstream in(trace);
        std::string kind;
        std::array<bool, 16> low{}, high{};
        for (std::string line; std::getline(in, line);) {
            unsigned device = 0, bytes = 0;
            unsigned long long at = 0, value = 0;
            if (std::sscanf(line.c_str(), "r %x %llx %x %llx", &device, &at, &bytes, &value) != 4 || device >= 16) continue;
            macs_.resize(std::max<std::size_t>(macs_.size(), device + 1));
            const bool is_low = at == 0x5400 || at == 0xa200, is_high = at == 0x5404 || at == 0xa204;
            if (is_low && !low[device]) std::memcpy(macs_[device].data(), &value, 4), low[device] = true;
            if (is_high && !high[device]) std::memcpy(macs_[device].data() + 4, &value, 2), high[device] = true;
        }
    }

    void event(const std::string& line) {
        std::istringstream in(line);
        in >> std::hex;
        std::string kind;
        in >> kind;
        unsigned long long a = 0, b = 0, c = 0, d = 0;
        if (kind == "d") {
            std::string bytes;
            in >> a >> b >> bytes;
            expect(a, b, bytes);
            return;
        }
        compare_memory();
        if (kind == "m") {
            std::string bytes;
            in >> a >> b >> bytes;
            change(a, b, bytes);
            return;
        }
        in >> a >> b >> c >> d;
        if (kind == "device") add(static_cast<std::uint16_t>(c));
        else if (kind == "map") map(a, static_cast<unsigned>(b), c, d);
        else if (kind == "unmap") (void)device(a).dma.unmap(b);
        else if (kind == "master") device(a).dma.enabled = b != 0;
        else if (kind == "reset") device(a).reset();
        else if (kind == "irqs") device(a).irqs.set(static_cast<sys::irq_kind>(b), std::vector<int>(c, -1));
        else if (kind == "w") ++done_.writes, write(device(a), b, c, static_cast<std::uint32_t>(d));
        else if (kind == "r") read(device(a), b, c, static_cast<std::uint32_t>(d));
        else if (!kind.empty() && kind[0] != '#') wrong("is not an event: " + line);
    }
    void add(std::uint16_t id) {
        const std::size_t n = models_.size();
        macs_.resize(std::max(macs_.size(), n + 1));
        models_.push_back(make_(id, macs_[n]));
        if (n % 2 == 1) models_[n - 1]->connect(*models_[n]);
    }
    [[nodiscard]] sim_device& device(unsigned long long n) { return *models_.at(n); }
    void map(unsigned long long memory, unsigned dev, std::uint64_t iova, std::size_t size) {
        if (memory >= memory_.size()) memory_.resize(memory + 1);
        piece& p = memory_[memory];
        if (p.now.empty()) {
            p.now.resize(size), p.before.resize(size), p.expected.resize(size);
            p.said.resize(size);
        }
        device(dev).dma.map_at(iova, p.now.data(), size);
    }
    void read(sim_device& model, std::size_t at, unsigned long long bytes, std::uint32_t value) {
        ++done_.reads;
        const sim_bar bar(model);
        const std::uint32_t got = bytes == 4 ? bar.read<std::uint32_t>(at) : bytes == 2 ? bar.read<std::uint16_t>(at) : bar.read<std::uint8_t>(at);
        if (got != value) wrong("register " + hex(at) + " reads " + hex(got) + "; the device had " + hex(value));
    }
    static void write(sim_device& model, std::size_t at, unsigned long long bytes, std::uint32_t value) {
        const sim_bar bar(model);
        if (bytes == 4) bar.write<std::uint32_t>(at, value);
        else if (bytes == 2) bar.write<std::uint16_t>(at, static_cast<std::uint16_t>(value));
        else bar.write<std::uint8_t>(at, static_cast<std::uint8_t>(value));
    }

    template <class F>
    void each_byte(unsigned long long memory, std::size_t at, const std::string& bytes, F f) {
        piece& p = memory_.at(memory);
        for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
            if (at + i / 2 >= p.now.size()) return wrong("memory beyond its end");
            f(p, at + i / 2, static_cast<std::byte>(std::stoul(bytes.substr(i, 2), nullptr, 16)));
        }
    }
    void change(unsigned long long memory, std::size_t at, const std::string& bytes) {
        each_byte(memory, at, bytes, [](piece& p, std::size_t i, std::byte b) { p.now[i] = p.before[i] = b; });
    }
    void expect(unsigned long long memory, std::size_t at, const std::string& bytes) {
        ++done_.memory;
        each_byte(memory, at, bytes, [](piece& p, std::size_t i, std::byte b) { p.expected[i] = b, p.said[i] = true; });
        dirty_ = true;
    }
    // What the last event did: as the trace says where it says something, else nothing.
    void compare_memory() {
        for (std::size_t m = 0; m < memory_.size() && done_.mismatch.empty(); ++m) {
            piece& p = memory_[m];
            if (!dirty_ && p.now == p.before) continue;
            for (std::size_t i = 0; i < p.now.size(); ++i) {
                const std::byte want = p.said[i] ? p.expected[i] : p.before[i];
                if (p.now[i] == want) continue;
                return wrong("memory " + hex(m) + " at " + hex(i) + " is " + hex(std::to_integer<unsigned>(p.now[i])) + "; with the device it was " +
                             hex(std::to_integer<unsigned>(want)));
            }
            p.before = p.now;
            if (dirty_) p.said.assign(p.said.size(), false);
        }
        dirty_ = false;
    }
    void wrong(const std::string& what) {
        if (done_.mismatch.empty()) done_.mismatch = "line " + std::to_string(number_) + ": " + what;
    }
    [[nodiscard]] static std::string hex(std::uint64_t v) {
        std::ostringstream s;
        s << "0x" << std::hex << v;
        return s.str();
    }

    model_maker make_;
    std::vector<std::array<std::uint8_t, 6>> macs_;
    std::vector<std::unique_ptr<sim_device>> models_;
    std::vector<piece> memory_;
    replay_result done_;
    std::size_t number_ = 0;
    bool dirty_ = false;
};

}  // namespace nm::test
