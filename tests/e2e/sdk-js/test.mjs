// SPDX-License-Identifier: Apache-2.0
// The AWS SDK v3 for JavaScript with its defaults: CRC32 on every upload, and
// for streams aws-chunked bodies with a trailer.
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  S3Client, CreateBucketCommand, PutObjectCommand, GetObjectCommand, HeadObjectCommand,
  ListObjectsV2Command, paginateListObjectsV2, DeleteObjectsCommand, DeleteObjectCommand,
  CopyObjectCommand, ListBucketsCommand, DeleteBucketCommand, GetObjectAttributesCommand,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { createPresignedPost } from '@aws-sdk/s3-presigned-post';

const endpoint = process.argv[2];
const credentials = {
  accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
};
const s3 = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials, maxAttempts: 1 });
const Bucket = 'sdk';
let failed = 0;

async function check(name, body) {
  try {
    await body();
    console.log(`ok t-sdk-js: ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok t-sdk-js: ${name}`);
    console.error(error);
  }
}
function same(actual, expected, what = 'value') {
  if (actual !== expected) throw new Error(`${what}: got ${actual}, expected ${expected}`);
}
const bytesOf = async (answer) => Buffer.from(await answer.Body.transformToByteArray());
function sameBytes(actual, expected) {
  if (!actual.equals(expected)) throw new Error(`${actual.length} bytes differ from ${expected.length}`);
}
async function* pieces(data, size) {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

await check('a bucket is made and listed', async () => {
  await s3.send(new CreateBucketCommand({ Bucket }));
  same((await s3.send(new ListBucketsCommand({}))).Buckets[0].Name, Bucket);
});
for (const size of [0, 1, 65535, 65536, 65537, 1048576, 3000001, 5242881, 104857600]) {
  for (const ending of ['bin', 'zip']) {
    await check(`a buffer of ${size} bytes as .${ending}`, async () => {
      const data = randomBytes(size);
      await s3.send(new PutObjectCommand({ Bucket, Key: `buffer-${size}.${ending}`, Body: data }));
      const got = await s3.send(new GetObjectCommand({ Bucket, Key: `buffer-${size}.${ending}` }));
      sameBytes(await bytesOf(got), data);
      same(got.ETag, `"${createHash('md5').update(data).digest('hex')}"`);
    });
    await check(`a stream of ${size} bytes as .${ending}`, async () => {
      const data = randomBytes(size);
      await s3.send(new PutObjectCommand({
        Bucket, Key: `stream-${size}.${ending}`, Body: Readable.from(pieces(data, 40000)), ContentLength: size,
      }));
      const got = await s3.send(new GetObjectCommand({ Bucket, Key: `stream-${size}.${ending}` }));
      sameBytes(await bytesOf(got), data);
      same(got.ContentEncoding, undefined, 'ContentEncoding');
    });
  }
}
await check('the checksum of an upload is answered and kept', async () => {
  const put = await s3.send(new PutObjectCommand({ Bucket, Key: 'sum', Body: 'abc' }));
  if (!put.ChecksumCRC32) throw new Error('no checksum in the answer');
  const got = await s3.send(new GetObjectCommand({ Bucket, Key: 'sum', ChecksumMode: 'ENABLED' }));
  same(got.ChecksumCRC32, put.ChecksumCRC32);
});
for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'SHA1', 'SHA256']) {
  await check(`a stream with ${ChecksumAlgorithm} in its trailer`, async () => {
    const data = randomBytes(200001);
    const put = await s3.send(new PutObjectCommand({
      Bucket, Key: `sum-${ChecksumAlgorithm}`, ChecksumAlgorithm, ContentLength: data.length,
      Body: Readable.from(pieces(data, 70000)),
    }));
    const got = await s3.send(new GetObjectCommand({ Bucket, Key: `sum-${ChecksumAlgorithm}`, ChecksumMode: 'ENABLED' }));
    sameBytes(await bytesOf(got), data);
    if (!got[`Checksum${ChecksumAlgorithm}`]) throw new Error('no checksum on the GET');
    same(put[`Checksum${ChecksumAlgorithm}`], got[`Checksum${ChecksumAlgorithm}`]);
  });
}
let completed;
await check('lib-storage uploads in parts', async () => {
  const data = randomBytes(17 * 1024 * 1024 + 3);
  const upload = new Upload({ client: s3, params: { Bucket, Key: 'multi.zip', Body: Readable.from(pieces(data, 1 << 20)) } });
  const done = await upload.done();
  completed = done.ETag;
  sameBytes(await bytesOf(await s3.send(new GetObjectCommand({ Bucket, Key: 'multi.zip' }))), data);
  const range = await s3.send(new GetObjectCommand({ Bucket, Key: 'multi.zip', Range: 'bytes=5242870-5242890' }));
  sameBytes(await bytesOf(range), data.subarray(5242870, 5242891));
});
await check('the end of an upload in parts answers its ETag', async () => {
  same((await s3.send(new HeadObjectCommand({ Bucket, Key: 'multi.zip' }))).ETag, completed);
  if (!completed.endsWith('-4"')) throw new Error(`ETag ${completed}`);
});
await check('an aborted upload leaves nothing', async () => {
  const upload = new Upload({
    client: s3, params: { Bucket, Key: 'aborted', Body: Readable.from(pieces(randomBytes(12 << 20), 1 << 20)) },
  });
  upload.on('httpUploadProgress', () => upload.abort());
  try {
    await upload.done();
    throw new Error('it went through');
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
  }
});
await check('metadata and odd keys', async () => {
  const Key = 'odd/ü ☃+%25&=?#\'"()*!.zip';
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: 'x', Metadata: { a: '1' }, CacheControl: 'no-cache', ContentType: 'text/x' }));
  const head = await s3.send(new HeadObjectCommand({ Bucket, Key }));
  same(head.Metadata.a, '1');
  same(head.CacheControl, 'no-cache');
  same(head.ContentType, 'text/x');
  const target = { Bucket, Key: 'odd/copy', CopySource: encodeURIComponent(`${Bucket}/${Key}`) };
  await s3.send(new CopyObjectCommand(target));
  same((await s3.send(new HeadObjectCommand({ Bucket, Key: 'odd/copy' }))).Metadata.a, '1');
});
await check('conditions come back as errors', async () => {
  const refused = async (command, status) => {
    try {
      await s3.send(command);
    } catch (error) {
      same(error.$metadata.httpStatusCode, status);
      return error.name;
    }
    throw new Error('it went through');
  };
  same(await refused(new PutObjectCommand({ Bucket, Key: 'multi.zip', Body: 'x', IfNoneMatch: '*' }), 412), 'PreconditionFailed');
  same(await refused(new GetObjectCommand({ Bucket, Key: 'none' }), 404), 'NoSuchKey');
  same(await refused(new GetObjectCommand({ Bucket: 'nosuchbucket', Key: 'none' }), 404), 'NoSuchBucket');
});
await check('a wrong checksum is refused', async () => {
  try {
    await s3.send(new PutObjectCommand({ Bucket, Key: 'wrong', Body: 'abc', ChecksumCRC32: 'AAAAAA==' }));
  } catch (error) {
    same(error.name, 'BadDigest');
    return;
  }
  throw new Error('it went through');
});
await check('pages are walked', async () => {
  let count = 0;
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 5 }, { Bucket })) count += page.KeyCount;
  if (count < 18) throw new Error(`${count} keys`);
  const some = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: 'odd/', EncodingType: 'url' }));
  same(some.KeyCount, 2);
});
await check('attributes', async () => {
  const answer = await s3.send(new GetObjectAttributesCommand({ Bucket, Key: 'multi.zip', ObjectAttributes: ['ObjectSize', 'ObjectParts'] }));
  same(answer.ObjectSize, 17 * 1024 * 1024 + 3);
  same(answer.ObjectParts.TotalPartsCount, 4);
});
await check('presigned links work both ways', async () => {
  const put = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: 'signed', Metadata: { a: 'hoisted' } }), { expiresIn: 60 });
  same((await fetch(put, { method: 'PUT', body: 'presigned' })).status, 200);
  const get = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: 'signed' }), { expiresIn: 60 });
  const got = await fetch(get);
  same(got.headers.get('x-amz-meta-a'), 'hoisted');
  same(await got.text(), 'presigned');
});
await check('a presigned form uploads', async () => {
  const { url, fields } = await createPresignedPost(s3, {
    Bucket, Key: 'form/${filename}', Conditions: [['content-length-range', 1, 100], ['starts-with', '$x-amz-meta-a', '']],
    Fields: { 'x-amz-meta-a': 'form', success_action_status: '201' }, Expires: 60,
  });
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append('file', new Blob(['from a form']), 'some.txt');
  const answer = await fetch(url, { method: 'POST', body: form });
  same(answer.status, 201, await answer.text());
  const got = await s3.send(new GetObjectCommand({ Bucket, Key: 'form/some.txt' }));
  same(got.Metadata.a, 'form');
  same((await bytesOf(got)).toString(), 'from a form');
});
await check('everything goes away', async () => {
  const all = await s3.send(new ListObjectsV2Command({ Bucket }));
  const gone = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: all.Contents.slice(1).map(({ Key }) => ({ Key })) } }));
  same(gone.Deleted.length, all.Contents.length - 1);
  await s3.send(new DeleteObjectCommand({ Bucket, Key: all.Contents[0].Key }));
  await s3.send(new DeleteBucketCommand({ Bucket }));
});
process.exit(failed ? 1 : 0);
