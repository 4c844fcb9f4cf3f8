"""S3's error codes, and those of its compatibles, as data: what each one means to the engine.

A code that is not here is decided by its status; ``LEFT_TO_STATUS`` names those of which that is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

from orbit_airflow.engine.errors import (
    AccessDenied,
    ChecksumRefused,
    ClockSkewed,
    CredentialsExpired,
    InvalidRequest,
    KmsDenied,
    NotFound,
    ObjectArchived,
    PreconditionFailed,
    StoreError,
    StoreFull,
    Throttled,
    Unavailable,
    Unsupported,
    UploadGone,
    WriteConflict,
    WrongEndpoint,
)

CODES: Mapping[type[StoreError], str] = {
    NotFound: (
        "NoSuchKey NoSuchBucket NoSuchVersion NotFound NoSuchBucketPolicy NoSuchCORSConfiguration NoSuchConfiguration "
        "NoSuchLifecycleConfiguration NoSuchObjectLockConfiguration NoSuchPublicAccessBlockConfiguration NoSuchTagSet "
        "NoSuchWebsiteConfiguration NoSuchAccessPoint NoSuchAsyncRequest NoSuchMultiRegionAccessPoint NoSuchResource "
        "NoSuchAnnotation ObjectLockConfigurationNotFoundError OwnershipControlsNotFoundError "
        "ReplicationConfigurationNotFoundError ServerSideEncryptionConfigurationNotFoundError NoLoggingStatusForKey"
    ),
    UploadGone: "NoSuchUpload",
    AccessDenied: (
        "AccessDenied AccessForbidden AllAccessDisabled AccountProblem Forbidden InvalidAccessKeyId InvalidToken "
        "SignatureDoesNotMatch InvalidSecurity NotSignedUp Unauthorized UnauthorizedAccess UnauthorizedAccessError "
        "InvalidPayer CrossLocationLoggingProhibited MissingAuthenticationToken UnexpectedIPError UserSuspended "
        "MissingSecurityHeader MissingSecurityElement TokenCodeInvalidError InvalidSignature UnsupportedSignature "
        "NotDeviceOwnerError ObjectLockedByBucketPolicy SignatureVersionNotSupported"
    ),
    CredentialsExpired: (
        "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired InvalidSessionException"
    ),
    ClockSkewed: "RequestTimeTooSkewed RequestInTheFuture",
    KmsDenied: (
        "KMS.AccessDeniedException KMS.DisabledException KMS.NotFoundException KMS.InvalidKeyUsageException "
        "KMS.KMSInvalidStateException KMSNotConfigured KMSKeyNotFoundException"
    ),
    ObjectArchived: "InvalidObjectState ObjectNotInActiveTierError RestoreAlreadyInProgress",
    PreconditionFailed: "PreconditionFailed NotModified",
    InvalidRequest: (
        # the request as such
        "AccessControlListNotSupported AmbiguousGrantByEmailAddress AuthorizationQueryParametersError BadRequest "
        "CredentialsNotSupported DeviceNotActiveError EncryptionTypeMismatch EntityTooLarge EntityTooSmall "
        "IdempotencyParameterMismatch IncorrectNumberOfFilesInPostRequest InlineDataTooLarge InvalidAddressingHeader "
        "InvalidArgument InvalidBucketName InvalidBucketOwnerAWSAccountID InvalidChunkSizeError "
        "InvalidEncryptionAlgorithmError InvalidHostHeader InvalidHttpMethod InvalidObjectName InvalidPart "
        "InvalidPartNumber InvalidPartOrder InvalidPolicyDocument InvalidPrefix InvalidRange InvalidRequest "
        "InvalidSOAPRequest InvalidStorageClass InvalidTag InvalidURI InvalidWriteOffset KeyTooLongError "
        "MalformedACLError MalformedPOSTRequest MalformedPolicy MalformedTrailerError MalformedXML "
        "MaxMessageLengthExceeded MaxPostPreDataLengthExceededError MetadataTooLarge MethodNotAllowed "
        "MissingAttachment MissingContentLength MissingRequestBodyError ObjectAlreadyInActiveTierError "
        "RequestHeaderSectionTooLarge RequestIsNotMultiPartContent RequestTorrentOfBucketError TagPolicyException "
        "TooManyParts UnexpectedContent UnresolvableGrantByEmailAddress UnsupportedArgument UnsupportedMediaType "
        "UserKeyMustBeSpecified AnnotationLimitExceeded AnnotationNameTooLong InvalidAnnotationName "
        # the bucket's state or settings
        "AccessPointAlreadyOwnedByYou BucketAlreadyExists BucketAlreadyOwnedByYou BucketHasAccessPointsAttached "
        "BucketNotEmpty ClientTokenConflict IllegalVersioningConfigurationException InvalidAccessPoint "
        "InvalidAccessPointAliasError InvalidBucketAclWithObjectOwnership InvalidBucketState "
        "InvalidTargetBucketForLogging TooManyAccessPoints TooManyBuckets "
        # MinIO's own
        "XMinioInsecureClientRequest XMinioInvalidObjectName XMinioInvalidResourceName XMinioObjectExistsAsDirectory "
        "XMinioParentIsObject XMinioRequestBodyParse InvalidSSECustomerAlgorithm SSEEncryptedObject "
        "InsecureSSECustomerRequest"
    ),
    WrongEndpoint: (
        "PermanentRedirect PermanentRedirectControlError TemporaryRedirect Redirect AuthorizationHeaderMalformed "
        "IncorrectEndpoint EndpointNotFound IllegalLocationConstraintException InvalidLocationConstraint InvalidRegion "
        "InvalidRegionName BucketRegionError"
    ),
    Unsupported: "NotImplemented NotSupported",
    StoreFull: "QuotaExceeded XMinioStorageFull XMinioAdminBucketQuotaExceeded InsufficientStorage",
    ChecksumRefused: "BadDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch InvalidDigest",
    WriteConflict: "ConditionalRequestConflict OperationAborted Locked",
    Throttled: (
        "SlowDown SlowDownRead SlowDownWrite Throttling ThrottlingException ThrottledException RequestLimitExceeded "
        "TooManyRequests TooManyRequestsException BandwidthLimitExceeded RequestThrottled RequestThrottledException "
        "RateLimitExceeded PriorRequestNotComplete BusyResharding"
    ),
    Unavailable: (
        "InternalError InternalFailure InternalServerError InternalServiceException ServiceUnavailable RequestTimeout "
        "RequestTimeoutException UnknownError IncompleteBody ConnectionClosedByRequester ResponseInterrupted "
        "ClientDisconnect ClientDisconnected OperationTimedOut XMinioServerNotInitialized XMinioBackendDown "
        "XMinioReadQuorum XMinioWriteQuorum"
    ),
}
BY_CODE: Mapping[str, type[StoreError]] = {code: kind for kind, codes in CODES.items() for code in codes.split()}

BY_STATUS: Mapping[int, type[StoreError]] = {
    301: WrongEndpoint,
    302: WrongEndpoint,
    303: WrongEndpoint,
    304: PreconditionFailed,
    307: WrongEndpoint,
    308: WrongEndpoint,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    408: Unavailable,
    409: WriteConflict,
    412: PreconditionFailed,
    423: WriteConflict,
    429: Throttled,
    501: Unsupported,
    507: StoreFull,
}
# Codes that say no more than their status does, and some of which come with more than one.
LEFT_TO_STATUS = frozenset({"", "Error", "Unknown", "Bad Request", "Not Found", "Service Unavailable"})

# What a person does next, by code; what depends on more than the code is in errormap.
HINTS: Mapping[str, str] = {
    "DeleteMarker": "a delete marker is what is there; older versions may be kept",
    "RequestTimeTooSkewed": "the clocks of this worker and of the store differ too much: set this worker's (NTP)",
    "ExpiredToken": "the session's credentials ran out; a new try makes a new session",
    "InvalidToken": "the session token is not one that this store knows; check the connection's aws_session_token",
    "InvalidAccessKeyId": "the store does not know this access key; check the connection's login and endpoint",
    "SignatureDoesNotMatch": "the secret key or the endpoint of the connection is wrong",
    "NoSuchBucket": "there is no such bucket at this endpoint; check its name, and the connection's endpoint",
    "InvalidObjectState": "the object is archived: restore it (RestoreObject) and wait until the copy is there",
    "ObjectNotInActiveTierError": "the source is archived: restore it (RestoreObject) and wait until the copy is there",
    "RestoreAlreadyInProgress": "a restore of this object is under way; wait until its copy is there",
    "InvalidRange": "the object is shorter than the range that was asked for; it was replaced meanwhile",
    "MethodNotAllowed": "the store does not allow this operation on this resource (a delete marker cannot be read)",
    "EntityTooLarge": "the store takes no part or object of this size; choose another chunk_size",
    "EntityTooSmall": "the store wants larger parts; choose a larger chunk_size",
    "AccessControlListNotSupported": "the bucket takes no ACLs (bucket owner enforced); leave acl_policy out",
    "InvalidPayer": "the bucket's owner lets the requester pay; set requester_pays",
    "QuotaExceeded": "the quota of the user or bucket is used up; free space or raise it",
    "XMinioStorageFull": "the store's disks are full",
    "TooManyParts": "the upload has more parts than the store takes; choose a larger chunk_size",
    "NotImplemented": "this store does not know the operation or one of its options",
}
