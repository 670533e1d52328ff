#include "node/answer_store.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <limits>
#include <stdexcept>
#include <system_error>

#include "node/log.h"

namespace turnpike::node {
namespace fs = std::filesystem;
namespace {

using journal::sqlite::Connection;
using journal::sqlite::Statement;
using journal::sqlite::StatementScope;

constexpr int kSchemaVersion = 1;
constexpr int kWriterCacheKib = 4 * 1024;
constexpr int kReaderCacheKib = 2 * 1024;
constexpr std::uint64_t kRowBytes = 512;  // of its keys, its indexes and its other columns, about
constexpr std::uint64_t kPageBytes = 4096;
constexpr auto kFiles = std::to_array<const char*>({"answers.db", "answers.db-wal", "answers.db-shm"});

constexpr const char* kSchema = R"(
CREATE TABLE answers (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  version TEXT NOT NULL,
  cost INTEGER NOT NULL,
  usage TEXT NOT NULL,
  content_type TEXT NOT NULL,
  stream INTEGER NOT NULL,
  events BLOB NOT NULL,
  ending BLOB NOT NULL,
  checksum BLOB NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX answers_by_use ON answers (used_at, bytes, key);
CREATE INDEX answers_by_expiry ON answers (expires_at);
PRAGMA user_version = 1;
)";

std::string usage_json(const engine::Usage& usage) {
  boost::json::object out;
  for (const auto& [meter, amount] : usage) out.emplace(meter, amount);
  return boost::json::serialize(out);
}

std::optional<engine::Usage> usage_of(std::string_view text) {
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse({text.data(), text.size()}, error);
  if (error || !value.is_object()) return std::nullopt;
  engine::Usage usage;
  for (const auto& [meter, amount] : value.get_object()) {
    if (!amount.is_int64()) return std::nullopt;
    usage.emplace_back(std::string(meter.data(), meter.size()), amount.get_int64());
  }
  return usage;
}

std::string events_blob(const std::vector<std::uint32_t>& events) {
  std::string out;
  for (const std::uint32_t length : events) {
    for (unsigned shift = 0; shift < 32; shift += 8) out += static_cast<char>(length >> shift);
  }
  return out;
}

std::vector<std::uint32_t> events_of(std::string_view blob) {
  std::vector<std::uint32_t> events;
  for (std::size_t at = 0; at + 4 <= blob.size(); at += 4) {
    std::uint32_t length = 0;
    for (unsigned i = 0; i < 4; ++i)
      length |= static_cast<std::uint32_t>(static_cast<unsigned char>(blob[at + i])) << (8 * i);
    events.push_back(length);
  }
  return events;
}

std::string checksum(const CachedAnswer& answer, std::string_view usage, std::string_view events) {
  std::string head;
  for (const std::string_view part :
       {std::string_view(answer.provider), std::string_view(answer.model), std::string_view(answer.version),
        usage, std::string_view(answer.content_type), events, std::string_view(answer.ending)}) {
    fmt::format_to(std::back_inserter(head), "{}:{}", part.size(), part);
  }
  fmt::format_to(std::back_inserter(head), "{};{};", answer.cost.nanos, answer.stream ? 1 : 0);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  std::string digest(32, '\0');
  unsigned int size = 0;
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), head.data(), head.size()) != 1 ||
      EVP_DigestUpdate(context.get(), answer.body.data(), answer.body.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()), &size) != 1)
    throw std::runtime_error("SHA-256 is not available in this OpenSSL");
  return digest;
}

// Whether the last failure means that the database itself is broken.
bool is_damaged(const Connection& connection) {
  const int code = sqlite3_extended_errcode(connection.raw());
  return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB || code == SQLITE_IOERR_SHORT_READ;
}

Error io_error(std::string message, std::string cause) {
  Error error;
  error.code = ErrorCode::kIo;
  error.message = std::move(message);
  error.cause = std::move(cause);
  return error;
}

CacheKey key_of(std::string_view blob) {
  CacheKey key;
  std::memcpy(key.bytes.data(), blob.data(), std::min(blob.size(), key.bytes.size()));
  return key;
}

std::uint64_t short_key(const CacheKey& key) {
  return CacheKeyHash{}(key);
}

}  // namespace

std::uint64_t footprint(const CachedAnswer& answer) {
  const std::uint64_t bytes =
      answer.body.size() + answer.events.size() * sizeof(std::uint32_t) + answer.ending.size() + kRowBytes;
  // A row that does not fit in a page takes whole pages of its own.
  return bytes < kPageBytes / 2 ? bytes : (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

AnswerStore::AnswerStore(fs::path folder, std::uint64_t bytes_max)
    : folder_(std::move(folder)), bytes_max_(bytes_max) {}

Result<std::unique_ptr<AnswerStore>> AnswerStore::open(fs::path folder, std::uint64_t bytes_max) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail_errno("making the folder of the cache", error.value());
  std::unique_ptr<AnswerStore> store(new AnswerStore(std::move(folder), bytes_max));
  const std::scoped_lock lock(store->writing_, store->reading_);
  Result<void> opened = store->open_files();
  if (!opened) {
    log_event(LogLevel::kWarn, "cache.begun_anew",
              {{"why", opened.error().message}, {"cause", opened.error().cause}});
    opened = store->begin_anew();
  }
  if (!opened) return std::unexpected(std::move(opened.error()));
  return store;
}

Result<void> AnswerStore::open_files() {
  const fs::path file = folder_ / kFiles[0];
  auto writer = Connection::open(file, true, kWriterCacheKib);
  if (!writer) return std::unexpected(std::move(writer.error()));
  for (const char* pragma : {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF",
                             "PRAGMA journal_size_limit=67108864", "PRAGMA temp_store=MEMORY"}) {
    if (auto set = writer->run(pragma, "cannot open the cache"); !set) return set;
  }
  int version = 0;
  try {
    StatementScope query(writer->statement("PRAGMA user_version"));
    if (query->step() == SQLITE_ROW) version = static_cast<int>(query->integer(0));
  } catch (const std::runtime_error& error) {
    return std::unexpected(io_error("the cache cannot be read", error.what()));
  }
  if (version == 0) {
    if (auto made = writer->run(kSchema, "cannot make the cache"); !made) return made;
  } else if (version != kSchemaVersion) {
    return std::unexpected(io_error("the cache is of another version of the program", {}));
  }
  auto reader = Connection::open(file, false, kReaderCacheKib);
  if (!reader) return std::unexpected(std::move(reader.error()));
  if (auto set = reader->run("PRAGMA query_only=1", "cannot open the cache"); !set) return set;
  writer_ = std::move(*writer);
  reader_ = std::move(*reader);
  return load_known();
}

Result<void> AnswerStore::load_known() {
  boost::unordered_flat_set<std::uint64_t> known;
  std::uint64_t bytes = 0;
  try {
    StatementScope rows(reader_->statement("SELECT key, bytes FROM answers INDEXED BY answers_by_use"));
    int code = SQLITE_ROW;
    while ((code = rows->step()) == SQLITE_ROW) {
      known.insert(short_key(key_of(rows->bytes(0))));
      bytes += rows->id(1);
    }
    if (code != SQLITE_DONE) return std::unexpected(reader_->error("cannot read the cache"));
  } catch (const std::runtime_error& error) {
    return std::unexpected(io_error("the cache cannot be read", error.what()));
  }
  const std::scoped_lock lock(mutex_);
  known_ = std::move(known);
  totals_.entries = known_.size();
  totals_.bytes = bytes;
  return {};
}

Result<void> AnswerStore::begin_anew() {
  writer_.reset();
  reader_.reset();
  {
    const std::scoped_lock lock(mutex_);
    known_.clear();
    totals_.entries = 0;
    totals_.bytes = 0;
  }
  for (const char* name : kFiles) {
    std::error_code error;
    fs::remove(folder_ / name, error);
    if (error) return fail_errno("removing a damaged cache", error.value());
  }
  Result<void> opened = open_files();
  if (!opened) {  // no half: without both there is no store
    writer_.reset();
    reader_.reset();
  }
  return opened;
}

void AnswerStore::failed(const Error& error, bool damaged) {
  {
    const std::scoped_lock lock(mutex_);
    ++totals_.failed;
  }
  log_event(LogLevel::kWarn, damaged ? "cache.begun_anew" : "cache.failed",
            {{"why", error.message}, {"cause", error.cause}});
  if (!damaged) return;
  const std::scoped_lock lock(writing_, reading_);
  if (auto anew = begin_anew(); !anew) {
    log_event(LogLevel::kError, "cache.off", {{"why", anew.error().message}, {"cause", anew.error().cause}});
  }
}

// --- Reading

bool AnswerStore::may_have(const CacheKey& key) const {
  const std::scoped_lock lock(mutex_);
  return known_.contains(short_key(key));
}

AnswerPtr AnswerStore::read_row(const CacheKey& key, bool& torn) {
  StatementScope row(reader_->statement(
      "SELECT created_at, expires_at, provider, model, version, cost, usage, content_type, stream, events, "
      "ending, checksum, body FROM answers WHERE key = ?1"));
  row->bind_blob(1, key.view());
  const int code = row->step();
  if (code == SQLITE_DONE) return nullptr;
  if (code != SQLITE_ROW) throw Failed{};
  auto answer = std::make_shared<CachedAnswer>();
  answer->created_at = wall_from_micros(row->integer(0));
  answer->expires_at = wall_from_micros(row->integer(1));
  answer->provider = row->text(2);
  answer->model = row->text(3);
  answer->version = row->text(4);
  answer->cost = Money{row->integer(5)};
  const std::string usage_text = row->text(6);
  answer->content_type = row->text(7);
  answer->stream = row->integer(8) != 0;
  const std::string events = row->text(9);
  answer->ending = row->text(10);
  const std::string expected = row->text(11);
  answer->body = row->text(12);
  auto usage = usage_of(usage_text);
  if (!usage || checksum(*answer, usage_text, events) != expected) {
    torn = true;
    return nullptr;
  }
  answer->usage = std::move(*usage);
  answer->events = events_of(events);
  return answer;
}

AnswerPtr AnswerStore::get(const CacheKey& key) {
  bool torn = false;
  AnswerPtr answer;
  std::optional<Error> error;
  bool damaged = false;
  {
    const std::scoped_lock lock(reading_);
    if (!reader_) return nullptr;
    try {
      answer = read_row(key, torn);
    } catch (const Failed&) {
      error = reader_->error("cannot read the cache");
      damaged = is_damaged(*reader_);
    } catch (const std::runtime_error& broken) {  // the schema is not ours any more
      error = io_error("the cache cannot be read", broken.what());
      damaged = true;
    }
  }
  if (error) failed(*error, damaged);
  if (torn) {
    log_event(LogLevel::kWarn, "cache.answer_damaged", {});
    write([&](Changed& changed) { remove_key(key, changed); });
  }
  return answer;
}

// --- Writing

template <typename Work>
bool AnswerStore::write(Work work) {
  std::optional<Error> error;
  bool damaged = false;
  {
    const std::scoped_lock lock(writing_);
    if (!writer_) return false;
    Changed changed;
    try {
      if (writer_->statement("BEGIN IMMEDIATE").run() != SQLITE_OK) throw Failed{};
      work(changed);
      if (writer_->statement("COMMIT").run() != SQLITE_OK) throw Failed{};
      apply(changed);
      return true;
    } catch (const Failed&) {
      error = writer_->error("cannot write the cache");
      damaged = is_damaged(*writer_);
    } catch (const std::runtime_error& broken) {
      error = io_error("the cache cannot be written", broken.what());
      damaged = true;
    }
    if (sqlite3_get_autocommit(writer_->raw()) == 0) writer_->exec("ROLLBACK");
  }
  failed(*error, damaged);
  return false;
}

void AnswerStore::apply(const Changed& changed) {
  const std::scoped_lock lock(mutex_);
  for (const CacheKey& key : changed.removed) known_.erase(short_key(key));
  for (const CacheKey& key : changed.added) known_.insert(short_key(key));
  totals_.entries = known_.size();
  totals_.bytes = static_cast<std::uint64_t>(static_cast<std::int64_t>(totals_.bytes) + changed.bytes);
  totals_.evicted += changed.evicted;
}

// Removes the rows of `select` (id, bytes, key), in its order, until so much is free.
void AnswerStore::remove_rows(Statement& select, std::uint64_t bytes_wanted, std::size_t rows_max,
                              Changed& changed) {
  std::vector<std::int64_t> ids;
  std::uint64_t freed = 0;
  {
    StatementScope rows(select);
    while (freed < bytes_wanted && ids.size() < rows_max) {
      const int code = rows->step();
      if (code == SQLITE_DONE) break;
      if (code != SQLITE_ROW) throw Failed{};
      ids.push_back(rows->integer(0));
      freed += rows->id(1);
      changed.removed.push_back(key_of(rows->bytes(2)));
    }
  }
  for (const std::int64_t id : ids) {
    Statement& remove = writer_->statement("DELETE FROM answers WHERE id = ?1");
    remove.bind(1, id);
    if (remove.run() != SQLITE_OK) throw Failed{};
  }
  changed.bytes -= static_cast<std::int64_t>(freed);
}

void AnswerStore::make_room(std::uint64_t bytes_needed, std::size_t rows_needed, Changed& changed) {
  std::uint64_t bytes_over = 0;
  std::size_t rows_over = 0;
  {
    const std::scoped_lock lock(mutex_);
    const std::uint64_t bytes =
        static_cast<std::uint64_t>(static_cast<std::int64_t>(totals_.bytes) + changed.bytes);
    const std::uint64_t rows = totals_.entries - changed.removed.size() + rows_needed;
    if (bytes + bytes_needed > bytes_max_) bytes_over = bytes + bytes_needed - bytes_max_;
    if (rows > kEntriesMax) rows_over = rows - kEntriesMax;
  }
  constexpr auto kOldest = "SELECT id, bytes, key FROM answers INDEXED BY answers_by_use ORDER BY used_at";
  const std::size_t before = changed.removed.size();
  if (bytes_over > 0)
    remove_rows(writer_->statement(kOldest), bytes_over, std::numeric_limits<std::size_t>::max(), changed);
  const std::size_t gone = changed.removed.size() - before;
  if (rows_over > gone) {
    remove_rows(writer_->statement(kOldest), std::numeric_limits<std::uint64_t>::max(), rows_over - gone,
                changed);
  }
  changed.evicted += changed.removed.size() - before;
}

void AnswerStore::remove_key(const CacheKey& key, Changed& changed) {
  Statement& select = writer_->statement("SELECT id, bytes, key FROM answers WHERE key = ?1");
  select.bind_blob(1, key.view());
  remove_rows(select, std::numeric_limits<std::uint64_t>::max(), 1, changed);
}

void AnswerStore::put(const CacheKey& key, const CachedAnswer& answer, Wall now) {
  const std::uint64_t bytes = footprint(answer);
  {
    const std::scoped_lock lock(mutex_);
    if (bytes > bytes_max_) return;
  }
  const std::string usage = usage_json(answer.usage);
  const std::string events = events_blob(answer.events);
  const std::string sum = checksum(answer, usage, events);
  write([&](Changed& changed) {
    remove_key(key, changed);
    make_room(bytes, 1, changed);
    Statement& insert = writer_->statement(
        "INSERT INTO answers (key, created_at, expires_at, used_at, bytes, provider, model, version, cost, "
        "usage, content_type, stream, events, ending, checksum, body) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)");
    insert.bind_blob(1, key.view());
    insert.bind(2, unix_micros(answer.created_at));
    insert.bind(3, unix_micros(answer.expires_at));
    insert.bind(4, unix_micros(now));
    insert.bind_id(5, bytes);
    insert.bind_text(6, answer.provider);
    insert.bind_text(7, answer.model);
    insert.bind_text(8, answer.version);
    insert.bind(9, answer.cost.nanos);
    insert.bind_text(10, usage);
    insert.bind_text(11, answer.content_type);
    insert.bind(12, answer.stream ? 1 : 0);
    insert.bind_blob(13, events);
    insert.bind_blob(14, answer.ending);
    insert.bind_blob(15, sum);
    insert.bind_blob(16, answer.body);
    if (insert.run() != SQLITE_OK) throw Failed{};
    changed.added.push_back(key);
    changed.bytes += static_cast<std::int64_t>(bytes);
  });
}

void AnswerStore::touch(const std::vector<std::pair<CacheKey, Wall>>& used) {
  if (used.empty()) return;
  write([&](Changed&) {
    for (const auto& [key, at] : used) {
      Statement& update = writer_->statement("UPDATE answers SET used_at = ?2 WHERE key = ?1");
      update.bind_blob(1, key.view());
      update.bind(2, unix_micros(at));
      if (update.run() != SQLITE_OK) throw Failed{};
    }
  });
}

bool AnswerStore::drop_expired(Wall now) {
  bool more = false;
  write([&](Changed& changed) {
    Statement& select = writer_->statement("SELECT id, bytes, key FROM answers WHERE expires_at <= ?1");
    select.bind(1, unix_micros(now));
    remove_rows(select, std::numeric_limits<std::uint64_t>::max(), kExpiredStep, changed);
    more = changed.removed.size() == kExpiredStep;
  });
  return more;
}

void AnswerStore::set_bytes_max(std::uint64_t bytes_max) {
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(bytes_max_, bytes_max) <= bytes_max) return;
  }
  write([&](Changed& changed) { make_room(0, 0, changed); });
}

AnswerStore::Totals AnswerStore::totals() const {
  const std::scoped_lock lock(mutex_);
  return totals_;
}

}  // namespace turnpike::node
