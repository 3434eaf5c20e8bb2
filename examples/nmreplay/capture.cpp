// SPDX-License-Identifier: BSD-2-Clause
#include "capture.hpp"

#include "common/failure.hpp"

#if defined(NM_HAS_PCAP)
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nm/base/os.hpp"
#endif

namespace nmreplay {

#if defined(NM_HAS_PCAP)

namespace {

// What libpcap reads through, so that a read that has to wait for a pipe can say so, and give up.
struct source {
    nm::base::unique_fd fd;
    std::function<bool()> wait;
};

ssize_t read_source(void* cookie, char* buffer, std::size_t size) {
    auto& s = *static_cast<source*>(cookie);
    for (int patience = 0;; patience = 100) {
        pollfd p{s.fd.get(), POLLIN, 0};
        const int ready = ::poll(&p, 1, patience);
        if (ready == 0 || (ready < 0 && errno == EINTR)) {
            if (s.wait && !s.wait()) return 0;
            continue;
        }
        const ssize_t n = ::read(s.fd.get(), buffer, size);
        if (n >= 0 || errno != EINTR) return n;
    }
}

}  // namespace

struct capture::reader {
    source from;
    pcap_t* in = nullptr;

    explicit reader(const std::string& file) {
        const auto cannot = [&](const std::string& why) { return tool::run_error("-f: cannot read \"" + file + "\": " + why); };
        from.fd.reset(file == "-" ? ::dup(0) : ::open(file.c_str(), O_RDONLY | O_CLOEXEC));
        if (!from.fd) throw cannot(nm::base::errno_text(errno));
        (void)::posix_fadvise(from.fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
        std::FILE* stream = ::fopencookie(&from, "r", {read_source, nullptr, nullptr, nullptr});
        if (stream == nullptr) throw cannot("no memory");
        (void)std::setvbuf(stream, nullptr, _IOFBF, 1 << 20);
        char why[PCAP_ERRBUF_SIZE] = "";
        in = ::pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, why);
        if (in == nullptr) {
            std::fclose(stream);
            throw cannot(why);
        }
        if (::pcap_datalink(in) != DLT_EN10MB) {
            const char* name = ::pcap_datalink_val_to_name(::pcap_datalink(in));
            ::pcap_close(in);
            throw cannot("it holds no Ethernet frames but " + std::string(name != nullptr ? name : "others"));
        }
    }
    reader(const reader&) = delete;
    reader& operator=(const reader&) = delete;
    ~reader() { ::pcap_close(in); }
};

capture::capture(std::string file) : file_(std::move(file)), reader_(std::make_unique<reader>(file_)) {}
capture::~capture() = default;

bool capture::can_rewind() const noexcept {
    struct stat st {};
    return ::fstat(reader_->from.fd.get(), &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

void capture::rewind() {
    std::function<bool()> wait = std::move(reader_->from.wait);
    reader_ = std::make_unique<reader>(file_);
    on_wait(std::move(wait));
}

void capture::on_wait(std::function<bool()> f) { reader_->from.wait = std::move(f); }

capture::found capture::next(captured& f) {
    pcap_pkthdr* header = nullptr;
    const u_char* data = nullptr;
    const int got = ::pcap_next_ex(reader_->in, &header, &data);
    if (got == 1) {
        // With this precision tv_usec holds nanoseconds (pcap_open_offline(3PCAP)).
        f.stamp_ns = static_cast<std::uint64_t>(header->ts.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(header->ts.tv_usec);
        f.length = header->len;
        f.have = header->caplen;
        f.data = data;
        return found::frame;
    }
    if (got == PCAP_ERROR_BREAK) return found::end;
    trouble_ = "-f: \"" + file_ + "\": " + ::pcap_geterr(reader_->in);
    return found::broken;
}

const char* capture::support() noexcept { return ::pcap_lib_version(); }

#else

struct capture::reader {};
capture::capture(std::string file) : file_(std::move(file)) {
    throw tool::run_error("-f: this nmreplay was built without libpcap; install libpcap-dev and build again");
}
capture::~capture() = default;
capture::found capture::next(captured&) { return found::end; }
bool capture::can_rewind() const noexcept { return false; }
void capture::rewind() {}
void capture::on_wait(std::function<bool()>) {}
const char* capture::support() noexcept { return "no libpcap"; }

#endif

}  // namespace nmreplay
