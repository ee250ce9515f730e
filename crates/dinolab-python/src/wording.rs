//! Messages in the words of Python.
//!
//! The libraries name settings in kebab case and in backticks, the program's sentences name flags and
//! suggest commands. Here both are arguments: `batch-size` and `--batch-size` become `batch_size`, and
//! a suggested `dinolab train … --lr 0.001` becomes `dinolab.train(…, lr=0.001)`.

/// How a suggested command begins.
const COMMAND: &str = "dinolab train ";
/// Flags of `train` that take no value.
const SWITCHES: [&str; 3] = ["resume", "change-settings", "fresh"];

/// A message of the program or its libraries, in the words of Python.
pub fn in_python(text: &str) -> String {
    let mut line = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(COMMAND) {
        line += &arguments(&rest[..place], line.is_empty());
        let command = &rest[place + COMMAND.len()..];
        let (words, length) = shell_words(command);
        line += &call(&words);
        rest = &command[length..];
    }
    line + &arguments(rest, line_is_new(text, rest))
}

/// Whether nothing of `text` comes before `rest`.
fn line_is_new(text: &str, rest: &str) -> bool {
    text.len() == rest.len()
}

/// A text without commands. A flag at its very beginning is a heading, and gets no backticks.
fn arguments(text: &str, first: bool) -> String {
    let mut line = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(['-', '`']) {
        let (before, at) = rest.split_at(place);
        line += before;
        let is_start = line.is_empty() || line.ends_with([' ', '\'', '(']);
        if let Some(name) = at.strip_prefix("--").map(name_of).filter(|_| is_start)
            && !name.is_empty()
        {
            let quoted = line.ends_with('\'');
            if quoted {
                line.pop();
            }
            let name = name.trim_end_matches('-');
            match first && line.is_empty() {
                true => line += &snake(name),
                false => line += &format!("`{}`", snake(name)),
            }
            rest = &at[2 + name.len()..];
            // What clap quotes has its placeholder with it: '--lr <X>'.
            if quoted && let Some(end) = rest.find('\'') {
                rest = &rest[end + 1..];
            }
        } else if let Some(name) = at.strip_prefix('`').map(name_of)
            && !name.is_empty()
            && at[1 + name.len()..].starts_with('`')
        {
            line += &format!("`{}`", snake(name));
            rest = &at[name.len() + 2..];
        } else {
            line += &at[..1];
            rest = &at[1..];
        }
    }
    line + rest
}

/// The name of a setting that a text begins with; may be empty.
fn name_of(text: &str) -> &str {
    let inside = |c: char| c.is_ascii_lowercase() || c == '-';
    let length = text.find(|c| !inside(c)).unwrap_or(text.len());
    match text.starts_with('-') {
        true => "",
        false => &text[..length],
    }
}

/// A name of a setting as an argument.
pub fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// The words of a command up to a semicolon or a full stop that is not quoted, and their length.
fn shell_words(text: &str) -> (Vec<String>, usize) {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut end = text.len();
    let mut letters = text.char_indices().peekable();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if !quoted => {
                let next = letters.next().map_or('\\', |(_, next)| next);
                word.get_or_insert_default().push(next);
            }
            ' ' if !quoted => words.extend(word.take()),
            ';' if !quoted => {
                end = place;
                break;
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    (words, end)
}

/// A call of `dinolab.train` with the arguments of a command.
fn call(words: &[String]) -> String {
    let mut arguments = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        arguments.push(match word.strip_prefix("--") {
            None => literal(word),
            Some(name) if SWITCHES.contains(&name) => format!("{}=True", snake(name)),
            Some(name) => {
                let value = words
                    .next()
                    .map_or_else(String::new, |value| literal(value));
                format!("{}={value}", snake(name))
            }
        });
    }
    format!("dinolab.train({})", arguments.join(", "))
}

/// A value as Python writes it.
fn literal(value: &str) -> String {
    let number = |c: char| c.is_ascii_digit() || "+-.e".contains(c);
    match value {
        "true" => "True".into(),
        "false" => "False".into(),
        // Placeholders of advice stay as they are.
        "IMAGES" => "IMAGES".into(),
        _ if value.chars().all(number) && value.parse::<f64>().is_ok() => value.into(),
        _ => format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
    }
}
