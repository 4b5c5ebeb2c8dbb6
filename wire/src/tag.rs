//! The message types of protocol 3, one enum per direction. No other file names them by their byte.
//!
//! Source: PostgreSQL documentation, "Message Formats".

macro_rules! tags {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $byte:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $byte,)+ }

        impl $name {
            /// Every type of this direction.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The type that `byte` stands for; `None`: not a message of this direction.
            #[inline]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($byte => Some($name::$variant),)+ _ => None }
            }

            /// The byte on the wire.
            #[inline]
            pub const fn byte(self) -> u8 {
                self as u8
            }
        }
    };
}

tags! {
    /// What a client may send once it has spoken its startup packet.
    Frontend {
        /// Bind parameters to a prepared statement, making a portal.
        Bind = b'B',
        /// Close a prepared statement or portal.
        Close = b'C',
        /// Describe a prepared statement or portal.
        Describe = b'D',
        /// Run a portal.
        Execute = b'E',
        /// Call a function by its oid.
        FunctionCall = b'F',
        /// Send what is pending, without a boundary.
        Flush = b'H',
        /// Prepare a statement.
        Parse = b'P',
        /// PasswordMessage, SASLInitialResponse, SASLResponse or GSSResponse.
        Password = b'p',
        /// Simple query.
        Query = b'Q',
        /// End of a request in the extended protocol.
        Sync = b'S',
        /// Goodbye.
        Terminate = b'X',
        /// Copy rows.
        CopyData = b'd',
        /// End of copy.
        CopyDone = b'c',
        /// Copy given up.
        CopyFail = b'f',
    }
}

tags! {
    /// What a server may send.
    Backend {
        /// Any step of the login.
        Authentication = b'R',
        /// Process id and secret for cancelling.
        BackendKeyData = b'K',
        /// Reply to Bind.
        BindComplete = b'2',
        /// Reply to Close.
        CloseComplete = b'3',
        /// A statement has run.
        CommandComplete = b'C',
        /// Copy rows.
        CopyData = b'd',
        /// End of copy out.
        CopyDone = b'c',
        /// The server waits for copy rows.
        CopyInResponse = b'G',
        /// Copy rows follow.
        CopyOutResponse = b'H',
        /// Both directions (replication).
        CopyBothResponse = b'W',
        /// One row.
        DataRow = b'D',
        /// The statement was empty.
        EmptyQueryResponse = b'I',
        /// Something failed.
        ErrorResponse = b'E',
        /// Reply to FunctionCall.
        FunctionCallResponse = b'V',
        /// The server speaks an older minor version.
        NegotiateProtocolVersion = b'v',
        /// The statement or portal returns no rows.
        NoData = b'n',
        /// Something worth telling.
        NoticeResponse = b'N',
        /// NOTIFY by somebody.
        NotificationResponse = b'A',
        /// Types of a prepared statement's parameters.
        ParameterDescription = b't',
        /// A reported setting changed.
        ParameterStatus = b'S',
        /// Reply to Parse.
        ParseComplete = b'1',
        /// The portal's row limit was reached.
        PortalSuspended = b's',
        /// Ready for the next request.
        ReadyForQuery = b'Z',
        /// Columns of the rows that follow.
        RowDescription = b'T',
    }
}

/// What Describe and Close aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Target {
    /// A prepared statement.
    Statement = b'S',
    /// A portal.
    Portal = b'P',
}

impl Target {
    /// The target that `byte` stands for.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'S' => Some(Target::Statement),
            b'P' => Some(Target::Portal),
            _ => None,
        }
    }
}

/// Whether a transaction is open, as ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TransactionStatus {
    /// No transaction.
    Idle = b'I',
    /// In a transaction.
    Open = b'T',
    /// In a transaction that has failed.
    Failed = b'E',
}

impl TransactionStatus {
    /// The status that `byte` stands for.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(TransactionStatus::Idle),
            b'T' => Some(TransactionStatus::Open),
            b'E' => Some(TransactionStatus::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_survives_the_round_trip() {
        for tag in Frontend::ALL {
            assert_eq!(Frontend::from_byte(tag.byte()), Some(*tag));
        }
        for tag in Backend::ALL {
            assert_eq!(Backend::from_byte(tag.byte()), Some(*tag));
        }
        assert_eq!(Frontend::from_byte(0), None);
        assert_eq!(Backend::from_byte(0xff), None);
    }
}
