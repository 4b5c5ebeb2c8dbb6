//! The bytes that a client says, each message whole with its tag and length.
//!
//! Written here a second time on purpose: a mistake in the product's codec must not be made by its tests too.

/// Protocol 3.0 as it stands in a startup packet.
pub const PROTOCOL_3_0: u32 = 196_608;
/// Protocol 3.2, which PostgreSQL 18 introduced.
pub const PROTOCOL_3_2: u32 = 196_610;
/// "May we speak TLS?"
pub const SSL_REQUEST: u32 = 80_877_103;
/// "May we speak GSSAPI encryption?"
pub const GSS_REQUEST: u32 = 80_877_104;
/// "Cancel what that session does."
pub const CANCEL_REQUEST: u32 = 80_877_102;

/// A message with a tag: tag, length over itself and the body, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(length_of(body));
    bytes.extend(body);
    bytes
}

/// A message without a tag, as those before login are.
pub fn untagged(body: &[u8]) -> Vec<u8> {
    let mut bytes = length_of(body).to_vec();
    bytes.extend(body);
    bytes
}

fn length_of(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).expect("a test message fits its length field").to_be_bytes()
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(text.as_bytes());
    body.push(0);
}

/// A startup packet: version, then the parameters in the order given.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        text(&mut body, name);
        text(&mut body, value);
    }
    body.push(0);
    untagged(&body)
}

/// SSLRequest or GSSENCRequest.
pub fn encryption_request(code: u32) -> Vec<u8> {
    untagged(&code.to_be_bytes())
}

/// CancelRequest with the whole key as BackendKeyData gave it.
pub fn cancel_request(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut body = CANCEL_REQUEST.to_be_bytes().to_vec();
    body.extend(pid.to_be_bytes());
    body.extend(key);
    untagged(&body)
}

/// PasswordMessage.
pub fn password(secret: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, secret);
    message(b'p', &body)
}

/// Query; the text may be any bytes.
pub fn query(sql: impl AsRef<[u8]>) -> Vec<u8> {
    let mut body = sql.as_ref().to_vec();
    body.push(0);
    message(b'Q', &body)
}

/// Parse with the types of the first parameters.
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, name);
    text(&mut body, sql);
    body.extend((types.len() as u16).to_be_bytes());
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    message(b'P', &body)
}

/// Bind of text parameters (`None` is NULL) for a text result.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    text(&mut body, statement);
    body.extend(0u16.to_be_bytes());
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend((-1i32).to_be_bytes()),
            Some(value) => {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(*value);
            }
        }
    }
    body.extend(0u16.to_be_bytes());
    message(b'B', &body)
}

/// Bind of parameters, each in its format (0: text, 1: binary), for results in these formats.
pub fn bind_as(portal: &str, statement: &str, parameters: &[(i16, Option<&[u8]>)], results: &[i16]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    text(&mut body, statement);
    body.extend((parameters.len() as u16).to_be_bytes());
    parameters.iter().for_each(|(format, _)| body.extend(format.to_be_bytes()));
    body.extend((parameters.len() as u16).to_be_bytes());
    for (_, parameter) in parameters {
        let length = parameter.map_or(-1, |value| value.len() as i32);
        body.extend(length.to_be_bytes());
        body.extend(parameter.unwrap_or_default());
    }
    body.extend((results.len() as u16).to_be_bytes());
    results.iter().for_each(|format| body.extend(format.to_be_bytes()));
    message(b'B', &body)
}

/// Describe of a statement (`S`) or a portal (`P`).
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    named(b'D', kind, name)
}

/// Close of a statement (`S`) or a portal (`P`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    named(b'C', kind, name)
}

fn named(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    text(&mut body, name);
    message(tag, &body)
}

/// Execute of a portal; zero rows means all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    body.extend(rows.to_be_bytes());
    message(b'E', &body)
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// CopyFail with its reason.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, reason);
    message(b'f', &body)
}

/// FunctionCall by the function's OID with binary arguments and a binary result.
pub fn function_call(function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend(1u16.to_be_bytes());
    body.extend(1u16.to_be_bytes());
    body.extend((arguments.len() as u16).to_be_bytes());
    for argument in arguments {
        body.extend((argument.len() as u32).to_be_bytes());
        body.extend(*argument);
    }
    body.extend(1u16.to_be_bytes());
    message(b'F', &body)
}
