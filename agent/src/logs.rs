//! A server's log, read from where a reader is, through the agent: also while it grows, and over a rotation.
//!
//! The directory is the servers' user's, so it is only touched through [`Tree`]: what is no regular file is not read.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    layout::{InstanceDir, LOG, OLDER_LOG},
    news::{AddWatchFlags, News},
    tree::Tree,
};

/// The most that is read at once.
const CHUNK: u64 = 256 << 10;

/// Where a reader is. Before the first byte of a file that is not there it is 0 and 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Of the file: a log that was put aside is still the same.
    pub inode: u64,
    /// The next byte.
    pub offset: u64,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Whole lines, unless one is longer than a chunk.
    pub text: String,
    /// Where to go on.
    pub at: Position,
}

/// The last lines.
pub fn tail(dir: &InstanceDir, lines: usize) -> io::Result<Chunk> {
    let Some((mut file, inode, size)) = open(&dir.open()?, LOG)? else { return Ok(Chunk::default()) };
    let from = size.saturating_sub(CHUNK);
    let bytes = read(&mut file, from, size - from)?;
    let text = String::from_utf8_lossy(&bytes);
    // What begins in the middle of a line is left out.
    let whole = if from > 0 { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    let begin =
        whole.trim_end_matches('\n').rmatch_indices('\n').nth(lines.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    let text = if lines == 0 { String::new() } else { whole[begin..].to_owned() };
    Ok(Chunk { text, at: Position { inode, offset: from + bytes.len() as u64 } })
}

/// What has come since, or nothing when nothing has for so long.
pub async fn more(dir: &InstanceDir, from: Position, patience: Duration) -> io::Result<Chunk> {
    let deadline = Instant::now() + patience;
    let tree = dir.open()?;
    // The very directory that was opened, whatever its path leads to by now.
    let path = PathBuf::from(format!("/proc/self/fd/{}", tree.as_fd().as_raw_fd()));
    let things = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    let news = News::of(&path, LOG, things)?;
    loop {
        let chunk = since(&tree, from)?;
        if !chunk.text.is_empty() || timeout_at(deadline, news.next()).await.is_err() {
            return Ok(chunk);
        }
    }
}

fn since(tree: &Tree, from: Position) -> io::Result<Chunk> {
    let Some((mut file, inode, size)) = open(tree, LOG)? else { return Ok(Chunk { at: from, ..Chunk::default() }) };
    if inode != from.inode {
        // What was written to the one that was put aside comes first.
        match open(tree, OLDER_LOG)? {
            Some((mut older, known, size)) if known == from.inode && size > from.offset => {
                return piece(&mut older, from, size);
            }
            _ => return piece(&mut file, Position { inode, offset: 0 }, size),
        }
    }
    // One that has become shorter was emptied by hand.
    let offset = if size < from.offset { 0 } else { from.offset };
    piece(&mut file, Position { inode, offset }, size)
}

fn piece(file: &mut File, from: Position, size: u64) -> io::Result<Chunk> {
    let mut bytes = read(file, from.offset, (size - from.offset).min(CHUNK))?;
    // A line that is being written is read when it is whole.
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => bytes.truncate(end + 1),
        None if (bytes.len() as u64) < CHUNK => bytes.clear(),
        None => {}
    }
    let offset = from.offset + bytes.len() as u64;
    Ok(Chunk { text: String::from_utf8_lossy(&bytes).into_owned(), at: Position { offset, ..from } })
}

fn open(tree: &Tree, name: &str) -> io::Result<Option<(File, u64, u64)>> {
    match tree.reader(name) {
        Ok((file, size)) => {
            let inode = file.metadata()?.ino();
            Ok(Some((file, inode, size)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(file: &mut File, from: u64, most: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;
    use crate::samples::{files, layout, stamp};

    fn instance() -> (tempfile::TempDir, InstanceDir) {
        let (base, layout) = layout();
        let dir = layout.instance(stamp().port);
        dir.establish(&stamp(), &files("", "")).unwrap();
        (base, dir)
    }

    fn say(dir: &InstanceDir, text: &str) {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(dir.log()).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    const NOW: Duration = Duration::ZERO;
    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn the_last_lines_and_no_more() {
        let (_base, dir) = instance();
        assert_eq!(tail(&dir, 5).unwrap(), Chunk::default(), "there is none yet");
        say(&dir, "one\ntwo\nthree\n");
        let last = |lines| tail(&dir, lines).unwrap().text;
        assert_eq!([last(0), last(1), last(2), last(9)], ["", "three\n", "two\nthree\n", "one\ntwo\nthree\n"]);
        say(&dir, &format!("{}\n", "x".repeat(300 << 10)));
        say(&dir, "end\n");
        assert_eq!(last(5), "end\n", "a line that is longer than a chunk is left out");
    }

    #[tokio::test]
    async fn what_comes_is_read_once_also_over_a_rotation() {
        let (_base, dir) = instance();
        say(&dir, "one\n");
        let at = tail(&dir, 1).unwrap().at;
        assert_eq!(more(&dir, at, NOW).await.unwrap(), Chunk { text: String::new(), at });
        let (next, ()) = tokio::join!(more(&dir, at, SOON), async { say(&dir, "two\nthr") });
        let next = next.unwrap();
        assert_eq!(next.text, "two\n", "a line that is being written is waited for");
        say(&dir, "ee\n");
        assert!(!dir.rotate_log(1 << 20).unwrap());
        assert!(dir.rotate_log(1).unwrap());
        say(&dir, "four\n");
        let three = more(&dir, next.at, SOON).await.unwrap();
        assert_eq!(three.text, "three\n", "from the one that was put aside");
        let four = more(&dir, three.at, SOON).await.unwrap();
        assert_eq!(four.text, "four\n");
        fs::write(dir.log(), "").unwrap();
        say(&dir, "5\n");
        assert_eq!(more(&dir, four.at, SOON).await.unwrap().text, "5\n", "emptied by hand");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let (base, dir) = instance();
        let secret = base.path().join("secret");
        fs::write(&secret, "hunter2\n").unwrap();
        std::os::unix::fs::symlink(&secret, dir.log()).unwrap();
        assert!(tail(&dir, 5).is_err());
    }
}
